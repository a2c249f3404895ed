"""Mentions in a text: ``@rob meets @"Ada Lovelace"``.

An ``@`` within a word, as in an e-mail address, is no mention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MENTION = re.compile(r'(?<!\w)@(?:"(?P<quoted>[^"]{1,100})"|(?P<bare>\w+(?:-\w+)*))')
_BARE = re.compile(r"\w+(?:-\w+)*")
_LONGEST = 100


@dataclass(frozen=True)
class Mention:
    """A name in a prompt, in its characters ``start:end``, the ``@`` and quotation marks included."""

    name: str
    start: int
    end: int


def find_mentions(prompt: str) -> list[Mention]:
    """The mentions in a prompt, in order."""
    return [Mention((m["quoted"] or m["bare"]).strip(), *m.span()) for m in _MENTION.finditer(prompt)]


def replace_mentions(prompt: str, mentions: Sequence[Mention], words: Sequence[str]) -> str:
    """The prompt with a word in place of each mention."""
    parts, end = [], 0
    for mention, word in zip(mentions, words, strict=True):
        parts += [prompt[end : mention.start], word]
        end = mention.end
    return "".join([*parts, prompt[end:]])


def write_mention(name: str, following: str | None = "") -> str:
    """How a prompt mentions ``name``: ``@name``, or ``@"name"`` where the name or what follows needs it.

    Args:
        following: the text after it; None is another mention.
    """
    name = mentionable(name)
    if _BARE.fullmatch(name) and following is not None and not re.match(r"\w|-\w", following):
        return f"@{name}"
    return f'@"{name}"'


def mentionable(name: str) -> str:
    """``name`` without what no mention can hold: quotation marks, outer spaces and more than 100 characters."""
    return name.replace('"', "'")[:_LONGEST].strip() or "?"
