"""What is decided about rows before a picture is opened: their word, their split, and the other picture of each."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypedDict

from components.data.schema import Reject, SourceRow, Subject
from components.model.words import find_word

Split = Literal["train", "validation"]
#: Pictures of the group that are tried in turn when one cannot be read.
_OTHERS = 3


class Job(TypedDict):
    """A row that is to be prepared. ``others`` are the other pictures of its group to show it from, best first."""

    row: SourceRow
    split: Split
    others: list[Subject]


class Plan(NamedTuple):
    """Jobs with the rows of a group next to each other, and the rows whose text rules them out."""

    jobs: list[Job]
    rejects: list[Reject]


def plan_rows(rows: list[SourceRow], validation_share: float) -> Plan:
    """Decide everything that needs no picture. The same rows give the same plan."""
    groups: dict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    known = {row["subject"]["image"]: row["subject"] for row in reversed(rows)}
    jobs, rejects = [], []
    for group, members in groups.items():
        split = split_of(group, validation_share)
        for row in members:
            if reason := _unfit(row):
                rejects.append(Reject(row["subject"]["id"], row["source"], "word", reason))
            else:
                jobs.append(Job(row=row, split=split, others=_others(row, members, known)))
    return Plan(jobs, rejects)


def split_of(group: str, validation_share: float) -> Split:
    """The split of a whole group, from its name alone: adding other groups moves none."""
    return "validation" if zlib.crc32(group.encode()) < validation_share * 2**32 else "train"


def pack(jobs: list[Job], size: int) -> Iterator[list[Job]]:
    """Cut ``jobs`` into batches of at most ``size`` rows that hold whole groups (a larger group is cut)."""
    batch: list[Job] = []
    for group in _runs(jobs):
        if batch and len(batch) + len(group) > size:
            yield batch
            batch = []
        batch += group
        while len(batch) > size:
            yield batch[:size]
            batch = batch[size:]
    if batch:
        yield batch


def _runs(jobs: list[Job]) -> Iterator[list[Job]]:
    run: list[Job] = []
    for job in jobs:
        if run and run[0]["row"]["group"] != job["row"]["group"]:
            yield run
            run = []
        run.append(job)
    if run:
        yield run


def _unfit(row: SourceRow) -> str | None:
    if not row["word"]:
        return "no target word: name the caption's word for the subject"
    return None if find_word(row["caption"], row["word"]) else "the caption does not hold the target word"


def _others(row: SourceRow, members: list[SourceRow], known: dict[str, Subject]) -> list[Subject]:
    """References of ``row`` (by default the rest of its group), starting at one that its name decides."""
    own = row["subject"]["image"]
    paths = row["references"] if row["references"] is not None else [m["subject"]["image"] for m in members]
    paths = [path for path in dict.fromkeys(paths) if path != own]
    if not paths:
        return []
    start = zlib.crc32(row["subject"]["id"].encode()) % len(paths)
    chosen = (paths[start:] + paths[:start])[:_OTHERS]
    return [known.get(path) or Subject(id=path, image=path, mask=None, box=None, head_box=None) for path in chosen]
