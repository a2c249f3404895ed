"""Compares names with the text of a prompt: in any case, Unicode composition, apostrophes, quotation marks, spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from components.model.words import folded

_QUOTES = frozenset("\"'`´ʼ“”„‟‘’‚‛«»‹›＂＇「」『』")
#: Scripts without spaces between words, and Korean, whose particles are written to the noun: a name may end, and a
#: mention may begin, within a run of letters.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19ff\u3005-\u3007\u3040-\u31ff\u3400-\u9fff"
    "\ua960-\ua97f\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff]"
)
_JOINERS = "\u200c\u200d"
_LATER_JAMO = range(0x1160, 0x1200)


class KnownNames:
    """Names by their `name_key`."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = frozenset(keys)
        #: Descending.
        self.lengths = sorted({len(key) for key in self._keys}, reverse=True)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __bool__(self) -> bool:
        return bool(self._keys)

    def and_also(self, keys: Iterable[str]) -> KnownNames:
        return KnownNames(self._keys.union(keys)) if (keys := [*keys]) else self


NO_NAMES = KnownNames()


class FoldedText:
    """A text as `name_key` folds it, with the positions of its characters."""

    def __init__(self, text: str) -> None:
        pieces, length = list[str](), 0
        #: Position in the text -> in the folded text, and the reverse, both at the bounds of composed characters.
        self._folded_at, self._original_at = dict[int, int](), dict[int, int]()
        for start, piece in _composed(text):
            self._folded_at[start], self._original_at[length] = length, start
            pieces.append(piece)
            length += len(piece)
        self._original_at[length] = len(text)
        self._folded = "".join(pieces)

    def names_at(self, start: int, names: KnownNames) -> Iterator[int]:
        """The ends of the names that the text has at ``start``, the longest first."""
        begin = self._folded_at.get(start)
        if begin is None:
            return
        for length in names.lengths:
            end = self._original_at.get(begin + length)
            if end is not None and self._folded[begin : begin + length] in names:
                yield end


def name_key(name: str) -> str:
    """The form in which names are compared."""
    return "".join(piece for _, piece in _composed(name.strip()))


def letters_of(text: str) -> str:
    """``text`` with a letter in place of each mark and joiner within a word, which patterns do not take for letters."""
    if text.isascii():
        return text
    letters, in_word = list[str](), False
    for character in text:
        if in_word and (character in _JOINERS or unicodedata.category(character).startswith("M")):
            letters.append("a")
        else:
            in_word = character.isalnum() or character == "_"
            letters.append(character)
    return "".join(letters)


def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script in which a word may end within a run of letters."""
    return _UNSPACED.match(character) is not None


def _composed(text: str) -> Iterator[tuple[int, str]]:
    """The composed characters of ``text``: their positions, and how they are compared."""
    end = 0
    while end < len(text):
        start, first = end, text[end]
        end += 1
        if first.isspace():
            while end < len(text) and text[end].isspace():
                end += 1
            yield start, " "
        elif first in _QUOTES:
            yield start, "'"
        elif first in "@＠":
            yield start, "@"
        else:
            while end < len(text) and _extends(text[end]):
                end += 1
            yield start, folded(text[start:end])


def _extends(character: str) -> bool:
    return unicodedata.category(character).startswith("M") or ord(character) in _LATER_JAMO
