"""Finds the target word in a prompt, as character spans and as token positions.

A target word is one word or a phrase. It matches whole words only ("cat" does not match "category"), in any case, in
singular or plural. Hyphens separate words as spaces do ("teddy-bear" matches "teddy bear"), possessive endings are
ignored ("the cat's hat" contains "cat"), and text is compared in Unicode normalization form C.
"""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, tensor
from transformers import CLIPTokenizer

from components.errors import ArtifactError, WordError

log = logging.getLogger(__name__)

Span = tuple[int, int]

#: Irregular plurals by the ending of the noun, so that compounds match (snowman, werewolf, grandchild).
_IRREGULAR = {
    "calf": "calves",
    "child": "children",
    "die": "dice",
    "dwarf": "dwarves",
    "elf": "elves",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "hoof": "hooves",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "loaf": "loaves",
    "louse": "lice",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "quiz": "quizzes",
    "scarf": "scarves",
    "thief": "thieves",
    "tooth": "teeth",
    "us": "i",  # cactus, octopus, fungus
    "wife": "wives",
    "wolf": "wolves",
}
#: Endings of nouns with a plural in -es.
_SIBILANTS = ("s", "x", "z", "ch", "sh", "o")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s$", re.IGNORECASE)
#: Separators within a phrase: spaces and hyphens, but no comma or full stop.
_WITHIN_PHRASE = re.compile(r"[\s‐‑-]*")


class Word(NamedTuple):
    """A word of a text: its `folded` form, and its span ``start:end``."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """The words of ``text`` in order, `folded` and without possessive endings."""
    # `\w` does not match combining marks, which belong to the letter before them.
    letters = "".join("a" if unicodedata.category(c).startswith("M") else c for c in text)
    words = []
    for match in _WORD.finditer(letters):
        original = _POSSESSIVE.sub("", text[match.start() : match.end()])
        words.append(Word(folded(original), match.start(), match.start() + len(original)))
    return words


def folded(text: str) -> str:
    """``text`` for comparison: case-folded, in Unicode normalization form C."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def adjacent(text: str, first: Word, second: Word) -> bool:
    """Whether two words of ``text`` are separated by spaces and hyphens only."""
    return _WITHIN_PHRASE.fullmatch(text, first.end, second.start) is not None


def find_word(prompt: str, word: str) -> list[Span]:
    """Character spans (start, end) of all occurrences of ``word`` in ``prompt``."""
    parts = [part.text for part in split_words(word)]
    return [(window[0].start, window[-1].end) for window in _phrases(prompt, len(parts)) if _is_phrase(window, parts)]


def require_word(prompt: str, word: str) -> list[Span]:
    """Like `find_word`, but requires an occurrence.

    Raises:
        WordError: ``prompt`` does not contain ``word``; the message suggests similar words.
    """
    spans = find_word(prompt, word)
    if spans:
        return spans
    parts = [part.text for part in split_words(word)]
    candidates = [" ".join(w.text for w in window) for window in _phrases(prompt, len(parts))]
    near = difflib.get_close_matches(" ".join(parts), dict.fromkeys(candidates), n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(repr(n) for n in near)}?" if near else ""
    raise WordError(f"target_word: the prompt does not contain it as a word{hint}")


def token_mask(tokenizers: CLIPTokenizer | Sequence[CLIPTokenizer], prompt: str, word: str) -> Tensor:
    """Float [tokens]: 1 at every token of ``word`` in the padded ``prompt``, else 0.

    A prompt beyond the tokenizers' limit is truncated, as in diffusers, with a warning that gives the number of dropped
    characters; prompts are never logged.

    Args:
        tokenizers: one, or the two of SDXL: SDXL concatenates the hidden states of both text encoders at each position,
            so both must tokenize the prompt equally (padding may differ).

    Raises:
        WordError: the word is not in the prompt, or only in the truncated part.
        ArtifactError: the tokenizers split the prompt differently.
    """
    tokenizers = tokenizers if isinstance(tokenizers, Sequence) else [tokenizers]
    spans = require_word(prompt, word)
    masks = [tensor([overlaps(offset, spans) for offset in _padded_offsets(t, prompt)]).float() for t in tokenizers]
    if any(not mask.equal(masks[0]) for mask in masks):
        raise ArtifactError("model.base: its tokenizers split the prompt differently; both must share one vocabulary")
    limit = tokenizers[0].model_max_length
    if not masks[0].any():
        raise WordError(f"target_word: it stands beyond the {limit} tokens the model reads; move it forward")
    dropped = dropped_text(tokenizers[0], prompt)
    if dropped:
        log.warning(
            "the prompt is longer than the %d tokens the model reads: %d characters are left out", limit, len(dropped)
        )
    return masks[0]


def dropped_text(tokenizer: CLIPTokenizer, prompt: str) -> str:
    """The part of ``prompt`` beyond the limit of ``tokenizer``; may be empty."""
    offsets = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    limit = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    return prompt[offsets[limit][0] :].strip() if len(offsets) > limit else ""


def same_noun(a: str, b: str) -> bool:
    """Whether two lower-case nouns are equal, or one may be the plural of the other."""
    return a == b or a in plurals(b) or b in plurals(a)


@lru_cache(maxsize=1 << 14)
def plurals(noun: str) -> frozenset[str]:
    """Possible plurals of a lower-case ``noun``, including forms that do not exist ("mongeese")."""
    if len(noun) < 2:
        return frozenset()
    forms = {noun + "s"}
    if noun.endswith(_SIBILANTS):
        forms.add(noun + "es")
    if noun.endswith("y") and noun[-2] not in "aeiou":
        forms.add(noun[:-1] + "ies")
    return frozenset(forms) | {noun.removesuffix(one) + many for one, many in _IRREGULAR.items() if noun.endswith(one)}


def singulars(noun: str) -> set[str]:
    """Possible singulars of a lower-case ``noun``, including forms that do not exist ("len"); empty for no plural."""
    stems = {noun[:-1], noun[:-2], noun[:-3] + "y"}
    stems |= {noun.removesuffix(many) + one for one, many in _IRREGULAR.items() if noun.endswith(many)}
    return {stem for stem in stems if noun in plurals(stem)}


def _phrases(text: str, length: int) -> list[list[Word]]:
    """All sequences of ``length`` words that are separated by spaces and hyphens only."""
    words = split_words(text)
    windows = [words[i : i + length] for i in range(len(words) - length + 1)] if length else []
    return [w for w in windows if all(adjacent(text, a, b) for a, b in pairwise(w))]


def _is_phrase(window: Sequence[Word], parts: Sequence[str]) -> bool:
    """Whether the words equal ``parts``; the last one may be singular or plural."""
    return [w.text for w in window[:-1]] == list(parts[:-1]) and same_noun(window[-1].text, parts[-1])


def _padded_offsets(tokenizer: CLIPTokenizer, prompt: str) -> list[Span]:
    """Character span of each token of the padded prompt; (x, x) for special and padding tokens."""
    length = tokenizer.model_max_length
    encoding = tokenizer(prompt, padding="max_length", truncation=True, max_length=length, return_offsets_mapping=True)
    offsets: list[Span] = encoding["offset_mapping"]
    return offsets


def overlaps(offset: Span, spans: Sequence[Span]) -> bool:
    """Whether a token's span, if it is not empty, overlaps one of ``spans``."""
    start, end = offset
    return start < end and any(start < span_end and end > span_start for span_start, span_end in spans)
