"""Notes on how a prompt is read: weights, chunks, and what the text encoders do not read."""

from __future__ import annotations

import copy
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diffusers import StableDiffusionXLPipeline

from components.model.prompt_weights import MAX_WEIGHT, find_weights, split_chunks
from components.model.words import find_word

#: ``((text))``, which other programs read as a weight.
_DOUBLED = re.compile(r"(?<!\\)\(\s*\((?:[^()\\]|\\.)+\)\s*\)")
#: Characters of a quotation, and weights of a note, at most.
_QUOTED, _LISTED = 60, 5


@dataclass(frozen=True)
class UnreadText:
    """Letters of a prompt in scripts that SDXL's text encoders do not read.

    Args:
        text: the first of them.
        share: of the letters outside of the subjects' words, in (0, 1].
    """

    text: str
    share: float


def find_unread(prompt: str, words: Sequence[str] = ()) -> UnreadText | None:
    """What the text encoders do not read: letters of other scripts than the Latin one, outside of ``words``.

    >>> find_unread("a robot in 東京", ["robot"])
    UnreadText(text='東京', share=0.4)
    """
    left = list(prompt)
    for word in words:
        for start, end in find_word(prompt, word):
            left[start:end] = " " * (end - start)
    letters = [character for character in left if character.isalpha()]
    unread = [character for character in letters if not _is_latin(character)]
    if not unread:
        return None
    start = left.index(unread[0])
    latin = (index for index in range(start, len(left)) if left[index].isalpha() and _is_latin(left[index]))
    return UnreadText(_shortened("".join(left[start : next(latin, len(left))]).strip()), len(unread) / len(letters))


class PromptReader:
    """Notes on the weights and the length of prompts. Thread-safe: it has a tokenizer of its own.

    Args:
        pipeline: its textual inversions are loaded.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        self._pipeline, self._tokenizer = pipeline, copy.deepcopy(pipeline.tokenizer)
        self._lock = threading.Lock()

    def notes(self, prompt: str, negative_prompt: str, prompt_weighting: bool) -> list[str]:
        """Notes on the prompts of a request, each of which begins with the field's name.

        Args:
            prompt_weighting: whether weights and prompts of any length are read.
        """
        return [
            f"{field}: {note}"
            for field, text in (("prompt", prompt), ("negative_prompt", negative_prompt))
            for note in (*_weight_notes(text, prompt_weighting), *self._length_notes(text, prompt_weighting))
        ]

    def _length_notes(self, text: str, prompt_weighting: bool) -> Iterator[str]:
        with self._lock:
            chunks = split_chunks(self._pipeline, self._tokenizer, text, prompt_weighting)
        limit = self._tokenizer.model_max_length - self._tokenizer.num_special_tokens_to_add()
        if len(chunks) > 1 and prompt_weighting:
            yield f"it was read in {len(chunks)} chunks of up to {limit} tokens"
        elif len(chunks) > 1:
            remedy = "prompt_weighting reads all of it, in chunks"
            yield f"beyond the {limit} tokens that are read: “{_shortened(chunks[1])}”; {remedy}"


def _weight_notes(text: str, prompt_weighting: bool) -> Iterator[str]:
    weights = find_weights(text)
    if weights and prompt_weighting:
        read = ", ".join(f"“{_shortened(part)}” × {min(weight, MAX_WEIGHT):g}" for part, weight in weights[:_LISTED])
        more = f" and {len(weights) - _LISTED} more" if len(weights) > _LISTED else ""
        most = f" ({MAX_WEIGHT:g} is the most)" if any(weight > MAX_WEIGHT for _, weight in weights) else ""
        yield f"weights were read: {read}{more}{most}"
    elif weights:
        part, weight = weights[0]
        yield f"“({_shortened(part)}:{weight:g})” was read as text; prompt_weighting reads weights"
    if doubled := _DOUBLED.search(text):
        remedy = "(text:1.2)" if prompt_weighting else "(text:1.2), with prompt_weighting,"
        yield f"“{_shortened(doubled[0])}” was read as text; {remedy} is a weight"


def _is_latin(letter: str) -> bool:
    """Whether a letter is a Latin one, or one that modifies others."""
    return unicodedata.name(letter, "").startswith(("LATIN ", "MODIFIER ", "FEMININE ", "MASCULINE ", "MICRO "))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED].rstrip()}…"
