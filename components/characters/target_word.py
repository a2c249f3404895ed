"""The word that names a character in prompts: given, or the head noun of the description."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
#: Words that end the head noun phrase: "a robot | with a red hat".
_ENDS_HEAD = frozenset(
    {"with", "without", "in", "on", "at", "of", "by", "from", "for", "under", "over", "near", "beside", "behind"}
    | {"and", "or", "that", "who", "which", "is", "has", "made", "wearing", "holding", "carrying", "sitting"}
    | {"standing", "lying", "looking"}
)

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


def head_noun(description: str) -> str | None:
    """The last word before the first preposition, participle or punctuation mark; None if there is no word.

    >>> head_noun("a small red robot with a hat"), head_noun("Cat, striped"), head_noun("")
    ('robot', 'Cat', None)
    """
    phrase = re.split(r"[,.;:!?()\n]", description.strip(), maxsplit=1)[0]
    head: list[str] = []
    for word in _WORD.findall(phrase):
        if word.lower() in _ENDS_HEAD:
            break
        head.append(word)
    return head[-1] if head else None
