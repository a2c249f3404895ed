"""The syntax of mentions: ``@rob meets @"Ada Lovelace"``.

Typographic quotation marks and the full-width ``＠`` are read too. A name holds no ``@``, except within a word.

An ``@`` within a word, as in an e-mail address, is not a mention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_AT_IN_WORD = r"(?<=\w)[@＠](?=\w)"
#: Pairs of quotation marks, as keyboards of different languages write them.
_PAIRS = ('""', "“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』", "＂＂", "‘’", "‚‘")
_QUOTES = tuple((pair[0], pair[1]) for pair in _PAIRS)
_QUOTED = "|".join(f"{first}(?:[^@＠{first}{last}]|{_AT_IN_WORD}){{1,100}}{last}" for first, last in _QUOTES)
_MENTION = re.compile(rf"(?<!\w)[@＠](?:(?P<quoted>{_QUOTED})|(?P<bare>\w+(?:-\w+)*))")
#: An ``@`` before something, which is no e-mail address's.
_AT = re.compile(r"(?<!\w)[@＠](?=[^\s@＠])")
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
    found = []
    for match in _MENTION.finditer(prompt):
        quoted = match["quoted"]
        found.append(Mention((quoted[1:-1] if quoted else match["bare"]).strip(), *match.span()))
    return found


def is_quoted(prompt: str, mention: Mention) -> bool:
    """Whether the name of ``mention`` stands in quotation marks."""
    return prompt[mention.start + 1] in {first for first, _ in _QUOTES}


def unread_mention(prompt: str, mentions: Sequence[Mention]) -> int | None:
    """The position of the first ``@`` before something that is no name, such as an unfinished quotation."""
    inside = [range(mention.start, mention.end) for mention in mentions]
    places = (match.start() for match in _AT.finditer(prompt))
    return next((place for place in places if not any(place in span for span in inside)), None)


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
    """``name`` as the syntax can hold it: without quotation marks, ``@`` outside of words and outer spaces, at most 100
    characters."""
    name = re.sub(rf"(?!{_AT_IN_WORD})[@＠]", "", name)
    return name.replace('"', "'")[:_LONGEST].strip() or "?"
