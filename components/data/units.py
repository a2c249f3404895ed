"""Units of work: rows that are curated, encoded and written together, with a fingerprint of all inputs as name.

Units of the same name have the same content, so finished ones are reused after an interruption, or when rows are added
to the source.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, NamedTuple

from components.data.plan import SPLITS, PlannedRow, Split, read_planned
from components.data.spool import Picked, Spool
from components.fingerprint import fingerprint

#: Rows that are marked at a time.
_MARKED = 4096


class MarkedRow(NamedTuple):
    """A row and its mark, a fingerprint of all inputs: the row, its files' content, settings and encoders."""

    mark: str
    job: PlannedRow


@dataclass(frozen=True)
class Unit:
    """Rows of one split that are written to one group of shard files."""

    jobs: Sequence[MarkedRow]

    @cached_property
    def key(self) -> str:
        return fingerprint(self.marks)

    @property
    def marks(self) -> list[str]:
        return [job.mark for job in self.jobs]

    @property
    def split(self) -> Split:
        return self.jobs[0].job["split"]


def mark_rows(
    jobs: Iterable[PlannedRow], content: Callable[[Iterable[str]], Mapping[str, str]], settings: Any, naming: Any
) -> Spool[MarkedRow]:
    """Mark ``jobs`` with their files' content and the JSON-serialisable ``settings``.

    Args:
        content: the mark of each address (`SourceFiles.marks`).
        naming: settings that matter only for rows without a word.
    """
    common = {False: fingerprint(settings), True: fingerprint([settings, naming])}
    marked = Spool[MarkedRow](read=_read_marked)
    waiting = iter(jobs)
    while part := list(islice(waiting, _MARKED)):
        marks = content({address for job in part for address in addresses_of(job)})
        for job in part:
            facts = [common[job["word_from"] == "detected"], job, [marks[each] for each in addresses_of(job)]]
            marked.append(MarkedRow(fingerprint(facts), job))
    return marked


def _read_marked(values: list[Any]) -> MarkedRow:
    return MarkedRow(values[0], read_planned(values[1]))


def addresses_of(job: PlannedRow) -> list[str]:
    """All files that ``job`` may read."""
    subjects = [job["row"]["subject"], *job["others"]]
    return [address for subject in subjects for address in (subject["image"], subject["mask"]) if address]


def cut_units(jobs: Sequence[MarkedRow], size: int, done: Mapping[str, Sequence[str]]) -> list[Unit]:
    """Cut ``jobs`` into units of at most ``size`` rows of whole groups (larger groups are split) and one split.

    Rows are packed in order. A finished unit of ``done`` (key -> marks of its rows) whose rows all exist, but are no
    longer adjacent, is reused, and the remaining rows are packed again. Units read their rows when they are used.
    """
    parts = list(_parts(jobs, size))
    fresh = [Unit(Picked(jobs, part)) for part in parts]
    if not done:
        return fresh
    kept = [unit for unit in fresh if unit.key in done]
    known = {unit.key for unit in kept}
    moved = done.keys() - known
    if not moved:  # the marks of all rows would take memory for nothing
        return fresh
    unfinished = ((part, unit) for part, unit in zip(parts, fresh, strict=True) if unit.key not in known)
    waiting = {mark: place for part, unit in unfinished for place, mark in zip(part, unit.marks, strict=True)}
    reused = []
    for key in sorted(moved, key=lambda key: (-len(done[key]), key)):
        marks = done[key]
        if 0 < len(marks) <= size and all(mark in waiting for mark in marks):
            reused.append(Unit(Picked(jobs, [waiting.pop(mark) for mark in marks])))
    if not reused:
        return fresh
    return [*kept, *reused, *cut_units(Picked(jobs, list(waiting.values())), size, {})]


def _parts(jobs: Sequence[MarkedRow], size: int) -> Iterator[Sequence[int]]:
    """The places of the rows of each unit."""
    runs: dict[Split, list[int]] = {split: [] for split in SPLITS}  # where a group begins, among those of its split
    places: dict[Split, array[int]] = {split: array("Q") for split in SPLITS}
    before: dict[Split, str | None] = dict.fromkeys(SPLITS)
    for place, (_, job) in enumerate(jobs):
        split, group = job["split"], job["row"]["group"]
        if group != before[split]:
            runs[split].append(len(places[split]))
            before[split] = group
        places[split].append(place)
    for split in SPLITS:
        for start, stop in pack([*runs[split], len(places[split])], size):
            yield places[split][start:stop]


def pack(bounds: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Cut rows into ranges of at most ``size`` rows of whole groups (larger groups are split).

    Args:
        bounds: where each group begins, and where the last one ends.
    """
    start = 0
    for begin, end in pairwise(bounds):
        if begin > start and end - start > size:
            yield start, begin
            start = begin
        while end - start > size:
            yield start, start + size
            start += size
    if bounds and bounds[-1] > start:
        yield start, bounds[-1]
