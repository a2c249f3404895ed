"""Target words are found as words, and as the tokens the text encoders read."""

from __future__ import annotations

import logging

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from components.errors import ArtifactError, WordError
from components.model.miniature import MiniatureLayout, build_tokenizer
from components.model.words import (
    dropped_text,
    find_word,
    plurals,
    require_word,
    same_noun,
    singulars,
    split_words,
    token_mask,
)

#: Words of any alphabet, phrases of one to three of them, and whatever a person may type.
WORDS = st.text(st.characters(categories=["Lu", "Ll", "Lo", "Mn"]), min_size=1, max_size=8)
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
TEXTS = st.text(max_size=40)
patient = settings(deadline=None)


@pytest.fixture(scope="module")
def tokenizer(miniature: MiniatureLayout) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(miniature.base / "tokenizer")


@pytest.fixture(scope="module")
def padded_otherwise(miniature: MiniatureLayout) -> CLIPTokenizer:
    """The second tokenizer of SDXL: the same words, padded with "!"."""
    return CLIPTokenizer.from_pretrained(miniature.base / "tokenizer_2", pad_token="!")


@pytest.mark.parametrize(
    ("prompt", "word", "expected"),
    [
        ("a cat on the beach", "cat", ["cat"]),
        ("A CAT, sitting", "Cat", ["CAT"]),
        ("a category of things, concatenated", "cat", []),
        ("two cats and a cat", "cat", ["cats", "cat"]),
        ("a cat", "cats", ["cat"]),
        ("a toy dog on a toy", "toy dog", ["toy dog"]),
        ("two toy\n dogs", "Toy dog", ["toy\n dogs"]),
        ("a toy, dog", "toy dog", []),
        ("a teddy-bear", "teddy bear", ["teddy-bear"]),
        ("a teddy bear", "teddy-bear", ["teddy bear"]),
        ("a robot-shaped cake", "robot", ["robot"]),
        ("the cat's hat", "cat", ["cat"]),
        ("THE CAT’S hat", "cat", ["CAT"]),
        ("the cats' hats", "cat", ["cats"]),
        ("the cat", "cat's", ["cat"]),
        ("a panda bear", "pand", []),
        ("a cafe\u0301", "caf\u00e9", ["cafe\u0301"]),
        ("ein STRASSENKATER", "Straßenkater", ["STRASSENKATER"]),
        ("рыжий Кот и кот", "кот", ["Кот", "кот"]),
        ("a 🐱cat🐱", "cat", ["cat"]),
        ("as it is", "a", []),
        ("a cat", "", []),
        ("a cat", " - ", []),
        ("", "cat", []),
    ],
)
def test_a_word_is_found_as_a_whole_word(prompt: str, word: str, expected: list[str]) -> None:
    assert [prompt[a:b] for a, b in find_word(prompt, word)] == expected


@pytest.mark.parametrize(
    ("one", "many"),
    [
        *(("cat", "cats"), ("fox", "foxes"), ("glass", "glasses"), ("potato", "potatoes"), ("puppy", "puppies")),
        *(
            ("toy", "toys"),
            ("mouse", "mice"),
            ("goose", "geese"),
            ("child", "children"),
            ("grandchild", "grandchildren"),
        ),
        *(("man", "men"), ("woman", "women"), ("snowman", "snowmen"), ("wolf", "wolves"), ("werewolf", "werewolves")),
        *(("person", "people"), ("foot", "feet"), ("tooth", "teeth"), ("knife", "knives"), ("scarf", "scarves")),
        *(("cactus", "cacti"), ("cactus", "cactuses"), ("ox", "oxen"), ("horse", "horses"), ("shoe", "shoes")),
    ],
)
def test_singular_and_plural_are_the_same_noun(one: str, many: str) -> None:
    assert same_noun(one, many) and same_noun(many, one)
    assert many in plurals(one) and one in singulars(many)


@pytest.mark.parametrize(
    ("one", "other"),
    [("plan", "planes"), ("cap", "capes"), ("a", "as"), ("man", "mane"), ("cat", "catty"), ("day", "daies")],
)
def test_other_endings_make_other_nouns(one: str, other: str) -> None:
    assert not same_noun(one, other)


def test_a_missing_word_is_an_error_that_lists_near_matches() -> None:
    with pytest.raises(WordError, match="'robot'"):
        require_word("a robot in the snow", "robt")
    with pytest.raises(WordError, match="'teddy bear'"):
        require_word("a teddy bear in the snow", "tedy bear")


@patient
@given(TEXTS, PHRASES)
def test_what_is_found_is_the_word_up_to_number(prompt: str, phrase: str) -> None:
    parts = [word.text for word in split_words(phrase)]
    for start, end in find_word(f"{prompt} {phrase} {prompt}", phrase):
        found = [word.text for word in split_words(f"{prompt} {phrase} {prompt}"[start:end])]
        assert found[:-1] == parts[:-1]
        assert same_noun(found[-1], parts[-1])


@patient
@given(TEXTS, PHRASES, TEXTS)
def test_an_inserted_word_is_found_where_it_stands(before: str, phrase: str, after: str) -> None:
    words = split_words(phrase)
    assume(words)
    prompt, offset = f"{before}, {phrase}, {after}", len(before) + 2
    assert (offset + words[0].start, offset + words[-1].end) in find_word(prompt, phrase)


@patient
@given(st.from_regex(r"[a-z]{2,10}", fullmatch=True))
def test_every_plural_leads_back(noun: str) -> None:
    assert all(noun in singulars(plural) and find_word(f"two {plural} at once", noun) for plural in plurals(noun))


@patient
@given(before=TEXTS, word=WORDS, after=TEXTS)
def test_only_tokens_of_the_word_are_marked(tokenizer: CLIPTokenizer, before: str, word: str, after: str) -> None:
    prompt = f"{word} {before} {word} {after}"
    spans = find_word(prompt, word)
    assume(spans)
    mask = token_mask(tokenizer, prompt, word)
    offsets = tokenizer(prompt, return_offsets_mapping=True, truncation=True).offset_mapping
    covered = [i for i, (a, b) in enumerate(offsets) if a < b and any(a < y and b > x for x, y in spans)]
    assert mask.nonzero().flatten().tolist() == covered
    assert mask.shape == (tokenizer.model_max_length,)


def test_only_the_words_own_tokens_are_marked(tokenizer: CLIPTokenizer) -> None:
    prompt = "a red cat on the left"
    mask = token_mask(tokenizer, prompt, "cat")
    ids = tokenizer(prompt).input_ids
    assert tokenizer.decode([ids[i] for i in mask.nonzero().flatten().tolist()]).strip() == "cat"


def test_every_occurrence_is_marked(tokenizer: CLIPTokenizer) -> None:
    assert token_mask(tokenizer, "a cat and the cat's cat", "cat").sum() == 3


def test_a_word_of_several_tokens_is_marked_whole(tokenizer: CLIPTokenizer) -> None:
    prompt = "a zyx cat"  # unknown words are read letter by letter
    assert token_mask(tokenizer, prompt, "zyx").sum() == 3


def test_both_tokenizers_mark_the_same_positions(tokenizer: CLIPTokenizer, padded_otherwise: CLIPTokenizer) -> None:
    assert tokenizer.pad_token_id != padded_otherwise.pad_token_id
    both = token_mask([tokenizer, padded_otherwise], "a red cat on the left", "cat")
    assert both.equal(token_mask(tokenizer, "a red cat on the left", "cat"))


def test_padding_is_never_the_word(padded_otherwise: CLIPTokenizer) -> None:
    assert token_mask(padded_otherwise, "a cat!", "cat").sum() == 1


def test_tokenizers_of_different_vocabularies_are_refused(tokenizer: CLIPTokenizer) -> None:
    unrelated = build_tokenizer(["a dog in a house"])
    with pytest.raises(ArtifactError, match="tokenizers"):
        token_mask([tokenizer, unrelated], "a red cat on the left", "cat")


def test_a_word_beyond_the_last_token_is_an_error(tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(WordError, match="beyond"):
        token_mask(tokenizer, "the " * tokenizer.model_max_length + "cat", "cat")


def test_a_warning_says_how_much_a_long_prompt_loses_but_not_what(
    tokenizer: CLIPTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    room = tokenizer.model_max_length - 2
    prompt = "a cat " + "the " * (room - 2) + "at night, left of a robot"
    with caplog.at_level(logging.WARNING):
        assert token_mask(tokenizer, prompt, "cat").sum() == 1
    assert dropped_text(tokenizer, prompt) == "at night, left of a robot"
    assert "characters are left out" in caplog.text and "robot" not in caplog.text
    assert tokenizer.decode(tokenizer(prompt, truncation=True).input_ids, skip_special_tokens=True).endswith("the")


def test_a_prompt_that_just_fits_loses_nothing(tokenizer: CLIPTokenizer, caplog: pytest.LogCaptureFixture) -> None:
    prompt = "a cat" + " the" * (tokenizer.model_max_length - 4)
    assert token_mask(tokenizer, prompt, "cat").sum() == 1
    assert dropped_text(tokenizer, prompt) == "" and not caplog.records
