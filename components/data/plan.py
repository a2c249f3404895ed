"""Planning of rows before pictures are opened: caption, word, split, and other pictures of the subject."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar, cast

import numpy as np

from components.data.caption_cleaning import clean_caption
from components.data.rejects import Reject, Rejects
from components.data.row_index import digest
from components.data.schema import AnnotatedSubject, SourceRow, read_row, read_subject
from components.data.spool import Spool
from components.errors import DataError
from components.model.words import find_word

T = TypeVar("T")

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
#: Origin of a row's word: its own field, another row of its group, or, later, detection in its picture; where the
#: picture confirms no phrase of the caption, the caption's head noun.
WordOrigin = Literal["given", "group", "detected", "caption"]
#: Maximum number of other pictures, which are tried in order until one is valid.
_OTHERS = 3


class PlannedRow(TypedDict):
    """A row to prepare, with a clean caption that contains its word; a word of None is detected later.

    ``others`` are other pictures of its subject as references, in order of preference. With ``whole_group`` all other
    pictures of the group are references; else only pictures that its source names.
    """

    row: SourceRow
    split: Split
    word_from: WordOrigin
    others: list[AnnotatedSubject]
    whole_group: bool


class Plan(NamedTuple):
    """Planned rows, ordered by group, and rejected rows."""

    jobs: Sequence[PlannedRow]
    rejects: Rejects


def plan_rows(rows: Sequence[SourceRow], validation_share: float) -> Plan:
    """Plan everything that needs no picture. Deterministic; rows are read group by group."""
    named = _Named.of(rows, validation_share)
    jobs, rejects = Spool[PlannedRow](read=read_planned), Rejects()
    for members in _groups(rows):
        group = _Group.of(members)
        split = split_of(members[0]["group"], validation_share)
        for row in members:
            try:
                jobs.append(_planned(row, split, group, named))
            except _Rejected as rejected:
                rejects.append(Reject(row["subject"]["id"], row["source"], rejected.stage, rejected.reason))
    return Plan(jobs, rejects)


def read_planned(values: dict[str, Any]) -> PlannedRow:
    """A planned row of what JSON holds of it."""
    others = [read_subject(each) for each in values["others"]]
    return cast(PlannedRow, values | {"row": read_row(values["row"]), "others": others})


class _Rejected(Exception):
    """A row cannot be used: at which stage, and why."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.reason = stage, reason


@dataclass(frozen=True)
class _Named:
    """The pictures that rows name as references: the first row of each, and the splits of its rows."""

    rows: Sequence[SourceRow]
    first: dict[str, int]
    splits: dict[str, set[Split]]

    @classmethod
    def of(cls, rows: Sequence[SourceRow], validation_share: float) -> _Named:
        paths = {path for row in rows for path in row["references"] or ()}
        first: dict[str, int] = {}
        splits: dict[str, set[Split]] = defaultdict(set)
        for place, row in enumerate(rows if paths else ()):
            image = row["subject"]["image"]
            if image in paths:
                first.setdefault(image, place)
                splits[image].add(split_of(row["group"], validation_share))
        return cls(rows, first, splits)

    def subject(self, path: str) -> AnnotatedSubject:
        """What is known of the picture at ``path``, which may be no row."""
        if path in self.first:
            return self.rows[self.first[path]]["subject"]
        return AnnotatedSubject(id=path, image=path, mask=None, box=None, head_box=None)


@dataclass(frozen=True)
class _Group:
    """A group: the target words of its rows, and its pictures with the place of each, in order."""

    words: list[str]
    pictures: list[AnnotatedSubject]
    places: dict[str, int]

    @classmethod
    def of(cls, members: Sequence[SourceRow]) -> _Group:
        first: dict[str, AnnotatedSubject] = {}
        for row in members:
            first.setdefault(row["subject"]["image"], row["subject"])
        words = list(dict.fromkeys(row["word"] for row in members if row["word"]))
        return cls(words, list(first.values()), {path: place for place, path in enumerate(first)})

    def names_all(self, row: SourceRow) -> bool:
        """Whether the references of ``row`` are all other pictures of the group, named or by default."""
        named = row["references"]
        return named is None or {*named, row["subject"]["image"]} == self.places.keys()

    def others(self, row: SourceRow, named: _Named) -> list[AnnotatedSubject]:
        """References of ``row`` (by default the rest of the group), from an index on that the hash of its id gives."""
        own, paths = row["subject"]["image"], row["references"]
        if paths is not None:
            paths = [path for path in dict.fromkeys(paths) if path != own]
            return [self._known(path, named) for path in _some(row, len(paths), paths.__getitem__)]
        place = self.places[own]
        return list(_some(row, len(self.pictures) - 1, lambda at: self.pictures[at + (at >= place)]))

    def _known(self, path: str, named: _Named) -> AnnotatedSubject:
        return self.pictures[self.places[path]] if path in self.places else named.subject(path)


def _some(row: SourceRow, number: int, item: Callable[[int], T]) -> Iterator[T]:
    """At most `_OTHERS` of ``number`` items, from an index on that the hash of the row's id gives."""
    if number:
        start = zlib.crc32(row["subject"]["id"].encode()) % number
        yield from (item((start + step) % number) for step in range(min(_OTHERS, number)))


def _groups(rows: Sequence[SourceRow]) -> Iterator[list[SourceRow]]:
    """The rows of each group with clean words, groups in the order of their first rows; one group is in memory."""
    digests = np.fromiter((digest(row["group"]) for row in rows), np.uint64, len(rows))
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    order = np.argsort(first[group], kind="stable")  # stable: the rows of a group stay in order
    for places in np.split(order, np.flatnonzero(np.diff(first[group][order])) + 1) if len(rows) else ():
        members: dict[str, list[SourceRow]] = defaultdict(list)  # groups with equal digests are told apart
        for place in places.tolist():
            row: SourceRow = rows[place]
            members[row["group"]].append({**row, "word": _clean_word(row["word"])})
        yield from members.values()


def _planned(row: SourceRow, split: Split, group: _Group, named: _Named) -> PlannedRow:
    """The plan of ``row``.

    Raises:
        _Rejected: its caption, its word or its references cannot be used.
    """
    try:
        caption = clean_caption(row["caption"])
    except DataError as error:
        raise _Rejected("caption", str(error)) from None
    if row["word"] and not find_word(caption, row["word"]):
        raise _Rejected("word", "the caption does not hold the target word")
    if any(split not in named.splits.get(path, {split}) for path in row["references"] or ()):
        raise _Rejected("references", "a reference belongs to the other split: give both rows the same group")
    word, origin = _word(row["word"], caption, group.words)
    return PlannedRow(
        row={**row, "caption": caption, "word": word, "references": None},
        split=split,
        word_from=origin,
        others=group.others(row, named),
        whole_group=group.names_all(row),
    )


def split_of(group: str, validation_share: float) -> Split:
    """The split of a group, a function of its name: adding other groups changes no split."""
    return "validation" if zlib.crc32(group.encode()) < validation_share * 2**32 else "train"


def _clean_word(word: str | None) -> str | None:
    """The target word, cleaned like captions; one that would be empty stays unchanged, and matches no caption."""
    try:
        return clean_caption(word) if word else None
    except DataError:
        return word


def _word(given: str | None, caption: str, nouns: list[str]) -> tuple[str | None, WordOrigin]:
    """The row's word: the given one, or a word of another row of the group that the caption contains."""
    if given:
        return given, "given"
    shared = next((noun for noun in nouns if find_word(caption, noun)), None)
    return shared, "group" if shared else "detected"
