"""Units of work: rows that are curated, encoded and written together, with a fingerprint of all inputs as name.

Units of the same name have the same content, so finished ones are reused after an interruption, or when rows are added
to the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.data.plan import SPLITS, PlannedRow, Split
from components.fingerprint import fingerprint


class MarkedRow(NamedTuple):
    """A row and its mark, a fingerprint of all inputs: the row, its files' content, settings and encoders."""

    mark: str
    job: PlannedRow


@dataclass(frozen=True)
class Unit:
    """Rows of one split that are written to one group of shard files."""

    jobs: tuple[MarkedRow, ...]

    @property
    def key(self) -> str:
        return fingerprint(self.marks)

    @property
    def marks(self) -> list[str]:
        return [job.mark for job in self.jobs]

    @property
    def split(self) -> Split:
        return self.jobs[0].job["split"]


def mark_rows(jobs: Sequence[PlannedRow], content: Mapping[str, str], settings: Any, naming: Any) -> list[MarkedRow]:
    """Mark ``jobs`` with their files' ``content`` (address -> mark) and the JSON-serialisable ``settings``.

    ``naming`` are settings that matter only for rows without a word.
    """
    common = {False: fingerprint(settings), True: fingerprint([settings, naming])}
    return [
        MarkedRow(
            fingerprint([common[job["word_from"] == "detected"], job, [content[a] for a in addresses_of(job)]]), job
        )
        for job in jobs
    ]


def addresses_of(job: PlannedRow) -> list[str]:
    """All files that ``job`` may read."""
    subjects = [job["row"]["subject"], *job["others"]]
    return [address for subject in subjects for address in (subject["image"], subject["mask"]) if address]


def cut_units(jobs: Sequence[MarkedRow], size: int, done: Mapping[str, Sequence[str]]) -> list[Unit]:
    """Cut ``jobs`` into units of at most ``size`` rows of whole groups (larger groups are split) and one split.

    Rows are packed in order. A finished unit of ``done`` (key -> marks of its rows) whose rows all exist, but are no
    longer adjacent, is reused, and the remaining rows are packed again.
    """
    fresh = [Unit(tuple(part)) for split in SPLITS for part in pack([j for j in jobs if j.job["split"] == split], size)]
    kept = {unit.key: unit for unit in fresh if unit.key in done}
    waiting = {job.mark: job for unit in fresh if unit.key not in done for job in unit.jobs}
    reused = []
    for key in sorted(done.keys() - kept.keys(), key=lambda key: (-len(done[key]), key)):
        if 0 < len(done[key]) <= size and all(mark in waiting for mark in done[key]):
            reused.append(Unit(tuple(waiting.pop(mark) for mark in done[key])))
    if not reused:
        return fresh
    return [*kept.values(), *reused, *cut_units(list(waiting.values()), size, {})]


def pack(jobs: Sequence[MarkedRow], size: int) -> Iterator[list[MarkedRow]]:
    """Cut ``jobs`` into lists of at most ``size`` rows of whole groups (larger groups are split)."""
    batch: list[MarkedRow] = []
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


def _runs(jobs: Sequence[MarkedRow]) -> Iterator[list[MarkedRow]]:
    run: list[MarkedRow] = []
    for job in jobs:
        if run and run[0].job["row"]["group"] != job.job["row"]["group"]:
            yield run
            run = []
        run.append(job)
    if run:
        yield run
