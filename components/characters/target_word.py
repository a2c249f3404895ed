"""The word that names a character in prompts: given, or the head noun of the description."""

from __future__ import annotations

from typing import Literal, NamedTuple

from components.model.phrases import head_noun

#: Origin of a word: the request, the description, or the pictures.
Source = Literal["given", "description", "detected"]


class TargetWord(NamedTuple):
    """The word that names a character in a prompt, and its origin."""

    word: str
    source: Source


def stated_word(given: str, description: str) -> TargetWord | None:
    """The ``given`` word, or else the head noun of the description; None without either."""
    if given:
        return TargetWord(given, "given")
    head = head_noun(description)
    return None if head is None else TargetWord(head, "description")
