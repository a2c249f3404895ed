"""The syntax of mentions: ``@rob meets @"Ada Lovelace"``.

An ``@`` within a word, as in an e-mail address, is not a mention.
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
    """A name mentioned in a prompt; ``start:end`` is its span, including the ``@`` and quotation marks."""

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
    """The mention of ``name``: ``@name``, or ``@"name"`` if the name or the following text requires quotation marks.

    Args:
        following: the text after the mention; None if another mention follows.
    """
    name = mentionable(name)
    if _BARE.fullmatch(name) and following is not None and not re.match(r"\w|-\w", following):
        return f"@{name}"
    return f'@"{name}"'


def mentionable(name: str) -> str:
    """``name`` as the syntax can hold it: without quotation marks and outer spaces, at most 100 characters."""
    return name.replace('"', "'")[:_LONGEST].strip() or "?"
