"""What is decided about rows before a picture is opened: caption, word, split, and the other pictures of each."""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Literal, NamedTuple, TypedDict

from components.data.captions import clean_caption
from components.data.schema import AnnotatedSubject, Reject, SourceRow
from components.errors import DataError
from components.model.words import find_word

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
#: Where a row's word comes from: its own field, another row of its group, or, later, what its picture shows.
WordOrigin = Literal["given", "group", "detected"]
#: Pictures of the group that are tried in turn when one cannot be read.
_OTHERS = 3


class Job(TypedDict):
    """A row that is to be prepared, its caption clean and its word in it; a word of None is to be detected.

    ``others`` are the other pictures of its group to show it from, best first.
    """

    row: SourceRow
    split: Split
    word_from: WordOrigin
    others: list[AnnotatedSubject]


class Plan(NamedTuple):
    """Jobs with the rows of a group next to each other, and the rows whose text rules them out."""

    jobs: list[Job]
    rejects: list[Reject]


def plan_rows(rows: list[SourceRow], validation_share: float) -> Plan:
    """Decide everything that needs no picture. The same rows give the same plan."""
    groups: dict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append({**row, "word": _clean_word(row["word"])})
    known = {row["subject"]["image"]: row["subject"] for row in reversed(rows)}
    splits: dict[str, set[Split]] = defaultdict(set)
    for row in rows:
        splits[row["subject"]["image"]].add(split_of(row["group"], validation_share))
    jobs, rejects = [], []
    for group, members in groups.items():
        split = split_of(group, validation_share)
        subjects = known | {row["subject"]["image"]: row["subject"] for row in reversed(members)}
        nouns = list(dict.fromkeys(row["word"] for row in members if row["word"]))
        for row in members:
            try:
                caption = clean_caption(row["caption"])
            except DataError as error:
                rejects.append(Reject(row["subject"]["id"], row["source"], "caption", str(error)))
                continue
            if row["word"] and not find_word(caption, row["word"]):
                reason = "the caption does not hold the target word"
                rejects.append(Reject(row["subject"]["id"], row["source"], "word", reason))
                continue
            if any(split not in splits.get(path, {split}) for path in row["references"] or ()):
                reason = "a reference belongs to the other split: give both rows the same group"
                rejects.append(Reject(row["subject"]["id"], row["source"], "references", reason))
                continue
            word, origin = _word(row["word"], caption, nouns)
            planned: SourceRow = {**row, "caption": caption, "word": word, "references": None}
            jobs.append(Job(row=planned, split=split, word_from=origin, others=_others(row, members, subjects)))
    return Plan(jobs, rejects)


def split_of(group: str, validation_share: float) -> Split:
    """The split of a whole group, from its name alone: adding other groups moves none."""
    return "validation" if zlib.crc32(group.encode()) < validation_share * 2**32 else "train"


def _clean_word(word: str | None) -> str | None:
    """The target word in the form that captions are in; one that is empty then stays as it is, and is in no caption."""
    try:
        return clean_caption(word) if word else None
    except DataError:
        return word


def _word(given: str | None, caption: str, nouns: list[str]) -> tuple[str | None, WordOrigin]:
    """The row's word: the given one, or what the caption shares with other rows of the group."""
    if given:
        return given, "given"
    shared = next((noun for noun in nouns if find_word(caption, noun)), None)
    return shared, "group" if shared else "detected"


def _others(row: SourceRow, members: list[SourceRow], known: dict[str, AnnotatedSubject]) -> list[AnnotatedSubject]:
    """References of ``row`` (by default the rest of its group), starting at one that its name decides."""
    own = row["subject"]["image"]
    paths = row["references"] if row["references"] is not None else [m["subject"]["image"] for m in members]
    paths = [path for path in dict.fromkeys(paths) if path != own]
    if not paths:
        return []
    start = zlib.crc32(row["subject"]["id"].encode()) % len(paths)
    chosen = (paths[start:] + paths[:start])[:_OTHERS]
    return [
        known.get(path) or AnnotatedSubject(id=path, image=path, mask=None, box=None, head_box=None) for path in chosen
    ]
