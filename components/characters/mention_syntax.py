"""The syntax of mentions: ``@rob meets @"Ada Lovelace"``.

An ``@`` (also the full-width ``＠``) mentions the longest known name that follows it and ends with a word. A name that
is not known is one word, or what stands in quotation marks of any language; it holds no ``@``, except within a word.
An ``@`` before a space and one of an e-mail address are text. Any other ``@`` names nobody, and has to be refused.
``studio/src/lib/mentions.ts`` reads prompts in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from components.characters.mention_names import NO_NAMES, FoldedText, KnownNames, is_unspaced, letters_of

_LONGEST = 100
_AT = "@＠"
_AT_IN_WORD = r"(?<=\w)[@＠](?=\w)"
#: Pairs of quotation marks, as keyboards of different languages write them.
_PAIRS = ('""', "“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』", "＂＂", "‘’", "‚‘", "''", "’’")
#: Pairs of which a keyboard replaced one mark; read around known names only.
_MIXED_PAIRS = ('“"', '"”', '„"', "‘'", "'’")
#: These are apostrophes as well: they close a quotation only at the end of a word.
_APOSTROPHES = "'’‘"
_ENDING = r"['’](?:s|d|m|ll|re|ve)(?!\w)"
#: A word; apostrophes within belong to it, but no English ending such as that of "Rob's".
_BARE = re.compile(rf"\w+(?:-\w+|(?!{_ENDING})['’]\w+)*", re.IGNORECASE)
_CONTINUED = re.compile(rf"\w|-\w|(?!{_ENDING})['’]\w", re.IGNORECASE)
_EMAIL_LOCAL = re.compile(r"[A-Za-z0-9._%+-]*[A-Za-z0-9_]\Z")
_EMAIL_DOMAIN = re.compile(r"(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")


def _quotation(pair: str) -> re.Pattern[str]:
    """An unknown name in these quotation marks."""
    first, last = pair[0], pair[1]
    apostrophe = rf"|{last}(?=\w)" if last in _APOSTROPHES else ""
    end = rf"{last}(?!\w)" if apostrophe else last
    return re.compile(rf"{first}(?:[^@＠{first}{last}]{apostrophe}|{_AT_IN_WORD}){{1,100}}{end}")


_QUOTATIONS = tuple(_quotation(pair) for pair in _PAIRS)


@dataclass(frozen=True)
class Mention:
    """A name mentioned in a prompt; ``start:end`` is its span, including the ``@`` and quotation marks."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class MentionReading:
    """The mentions of a prompt in order; ``unread`` is the position of the first ``@`` that names nobody."""

    mentions: tuple[Mention, ...]
    unread: int | None


def read_mentions(prompt: str, names: KnownNames = NO_NAMES) -> MentionReading:
    """Read the mentions of a prompt."""
    reader = _Reader(prompt, names)
    mentions, unread, end = list[Mention](), list[int](), 0
    for match in re.finditer(r"[@＠](?=\S)", prompt):
        start = match.start()
        if start < end or _is_email(prompt, end, start):
            continue
        if (mention := reader.mention_at(start, follows_mention=0 < start == end)) is None:
            unread.append(start)
        else:
            mentions.append(mention)
            end = mention.end
    return MentionReading(tuple(mentions), unread[0] if unread else None)


def describe_unread(field: str, position: int) -> str:
    """The error message of an ``@`` that names nobody."""
    return f'{field}: the @ at character {position + 1} names nobody: write @name or @"two words", or leave the @ out'


def replace_mentions(prompt: str, mentions: Sequence[Mention], words: Sequence[str]) -> str:
    """The prompt with a word in place of each mention, joined as by `join_words`."""
    parts, end = list[str](), 0
    for mention, word in zip(mentions, words, strict=True):
        parts += [prompt[end : mention.start], word]
        end = mention.end
    return join_words([*parts, prompt[end:]])


def join_words(parts: Sequence[str]) -> str:
    """Join texts and words, with a space where two letters meet: a prompt may have none around a mention."""
    text = ""
    for part in parts:
        text += f" {part}" if text[-1:].isalnum() and part[:1].isalnum() else part
    return text


def write_mention(name: str, before: str = "", following: str = "", names: KnownNames = NO_NAMES) -> str:
    """The mention of ``name``: ``@name``, or ``@"name"`` where the first would be read as something else.

    Args:
        before: the text before the mention.
        following: the text after the mention, later mentions included.
    """
    name = mentionable(name)
    end = 1 + len(name)
    reader = _Reader(f"@{name}{following[: 4 * _LONGEST]}", names)
    word = _BARE.match(reader.letters, 1)
    known = reader.longest_name(1, reader.ends_word)
    is_one_word = word is not None and word.end() == end and known in (None, end) and following[:1] not in {*_AT}
    return f"@{name}" if is_one_word and not re.search(r"[A-Za-z0-9._%+-]\Z", before) else f'@"{name}"'


def mentionable(name: str) -> str:
    """``name`` as the syntax can hold it: without quotation marks, ``@`` outside of words and outer spaces, at most 100
    characters."""
    name = re.sub(rf"(?!{_AT_IN_WORD})[@＠]", "", name)
    return name.replace('"', "'")[:_LONGEST].rstrip(_AT).strip() or "?"


class _Reader:
    """Reads single mentions of a prompt. Positions are those of the prompt."""

    def __init__(self, prompt: str, names: KnownNames) -> None:
        self.prompt = prompt
        self.letters = letters_of(prompt)
        self._names = names
        self._folded = FoldedText(prompt) if names else None

    def mention_at(self, start: int, follows_mention: bool) -> Mention | None:
        """The mention that begins with the ``@`` at ``start``; after a letter, only that of a known name."""
        after_letter = start > 0 and _is_letter(self.letters[start - 1]) and not is_unspaced(self.prompt[start - 1])
        is_separate = follows_mention or not after_letter
        return (
            self._known_in_quotes(start, _PAIRS)
            or (self._known(start) if self.prompt[start + 1] in _APOSTROPHES else None)
            or (self._unknown_in_quotes(start) if is_separate else None)
            or self._known_in_quotes(start, _MIXED_PAIRS)
            or self._known(start)
            or (self._unknown_word(start) if is_separate else None)
        )

    def longest_name(self, start: int, is_end: Callable[[int], bool]) -> int | None:
        """The end of the longest known name that begins at ``start``."""
        if self._folded is None:
            return None
        return next((end for end in self._folded.names_at(start, self._names) if is_end(end)), None)

    def ends_word(self, end: int) -> bool:
        """Whether a name may end here."""
        if not _is_letter(self.letters[end - 1]) or not _CONTINUED.match(self.letters, end):
            return True
        # A name of a script without spaces may be followed by letters of another script, but not by digits.
        return is_unspaced(self.prompt[end]) or (is_unspaced(self.prompt[end - 1]) and self.prompt[end].isalpha())

    def _known(self, start: int) -> Mention | None:
        end = self.longest_name(start + 1, self.ends_word)
        return None if end is None else Mention(self.prompt[start + 1 : end], start, end)

    def _known_in_quotes(self, start: int, pairs: Sequence[str]) -> Mention | None:
        for pair in pairs:
            if self.prompt[start + 1] == pair[0]:
                begin = self._skip_spaces(start + 2)
                end = self.longest_name(begin, partial(self._closes, pair[1]))
                if end is not None:
                    return Mention(self.prompt[begin:end], start, self._skip_spaces(end) + 1)
        return None

    def _unknown_in_quotes(self, start: int) -> Mention | None:
        for pattern in _QUOTATIONS:
            if (found := pattern.match(self.letters, start + 1)) and (name := self._text(found)[1:-1].strip()):
                return Mention(name, start, found.end())
        return None

    def _unknown_word(self, start: int) -> Mention | None:
        found = _BARE.match(self.letters, start + 1)
        return None if found is None else Mention(self._text(found), start, found.end())

    def _closes(self, last: str, end: int) -> bool:
        """Whether the quotation mark ``last`` follows, after spaces."""
        mark = self._skip_spaces(end)
        if not self.prompt.startswith(last, mark):
            return False
        following = self.prompt[mark + 1 : mark + 2]
        return last not in _APOSTROPHES or not _is_letter(following) or is_unspaced(following)

    def _skip_spaces(self, start: int) -> int:
        while start < len(self.prompt) and self.prompt[start].isspace():
            start += 1
        return start

    def _text(self, found: re.Match[str]) -> str:
        return self.prompt[found.start() : found.end()]


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_email(prompt: str, begin: int, at: int) -> bool:
    return bool(_EMAIL_LOCAL.search(prompt[max(begin, at - _LONGEST) : at]) and _EMAIL_DOMAIN.match(prompt, at + 1))
