"""Target words are found as words, and as the tokens the text encoder reads."""

from __future__ import annotations

import pytest
from transformers import CLIPTokenizer

from components.errors import WordError
from components.model.miniature import MiniatureLayout
from components.model.words import find_word, require_word, token_mask


@pytest.fixture(scope="module")
def tokenizer(miniature: MiniatureLayout) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(miniature.base / "tokenizer")


@pytest.mark.parametrize(
    ("prompt", "word", "expected"),
    [
        ("a cat on the beach", "cat", ["cat"]),
        ("A CAT, sitting", "Cat", ["CAT"]),
        ("a category of things", "cat", []),
        ("two cats and a cat", "cat", ["cats", "cat"]),
        ("a cat", "cats", ["cat"]),
        ("three puppies", "puppy", ["puppies"]),
        ("a toy dog on a toy", "toy dog", ["toy dog"]),
        ("a panda bear", "pand", []),
        ("a cat", "", []),
    ],
)
def test_a_word_is_found_as_a_whole_word(prompt: str, word: str, expected: list[str]) -> None:
    assert [prompt[a:b] for a, b in find_word(prompt, word)] == expected


def test_a_missing_word_is_an_error_that_lists_near_matches() -> None:
    with pytest.raises(WordError, match="'robot'"):
        require_word("a robot in the snow", "robt")


def test_only_the_words_own_tokens_are_marked(tokenizer: CLIPTokenizer) -> None:
    prompt = "a red cat on the left"
    mask = token_mask(tokenizer, prompt, "cat")
    ids = tokenizer(prompt).input_ids
    assert tokenizer.decode([ids[i] for i in mask.nonzero().flatten().tolist()]).strip() == "cat"


def test_a_word_of_several_tokens_is_marked_whole(tokenizer: CLIPTokenizer) -> None:
    prompt = "a zyx cat"  # unknown words are read letter by letter
    assert token_mask(tokenizer, prompt, "zyx").sum() == 3


def test_a_word_beyond_the_last_token_is_an_error(tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(WordError, match="beyond"):
        token_mask(tokenizer, "the " * tokenizer.model_max_length + "cat", "cat")
