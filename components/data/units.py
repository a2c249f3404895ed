"""The units of work: rows that are curated, encoded and written together, and named by everything that goes into them.

A unit of the same name has the same content, so a finished one is never worked on again: not after an interruption, and
not when rows are added to the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.data.plan import SPLITS, Job, Split
from components.fingerprint import fingerprint


class MarkedJob(NamedTuple):
    """A job, and the mark of all that its outcome depends on: itself, its files' content, settings and encoders."""

    mark: str
    job: Job


@dataclass(frozen=True)
class Unit:
    """Rows of one split that become one group of shard files."""

    jobs: tuple[MarkedJob, ...]

    @property
    def key(self) -> str:
        return fingerprint(self.marks)

    @property
    def marks(self) -> list[str]:
        return [job.mark for job in self.jobs]

    @property
    def split(self) -> Split:
        return self.jobs[0].job["split"]


def mark_jobs(jobs: Sequence[Job], content: Mapping[str, str], settings: Any, naming: Any) -> list[MarkedJob]:
    """Mark ``jobs`` with their files' ``content`` (address -> mark) and the JSON-serialisable ``settings``.

    ``naming`` stands for the settings that matter only where a word is to be detected.
    """
    common = {False: fingerprint(settings), True: fingerprint([settings, naming])}
    return [
        MarkedJob(
            fingerprint([common[job["word_from"] == "detected"], job, [content[a] for a in addresses_of(job)]]), job
        )
        for job in jobs
    ]


def addresses_of(job: Job) -> list[str]:
    """Every file that ``job`` may open."""
    subjects = [job["row"]["subject"], *job["others"]]
    return [address for subject in subjects for address in (subject["image"], subject["mask"]) if address]


def cut_units(jobs: Sequence[MarkedJob], size: int, done: Mapping[str, Sequence[str]]) -> list[Unit]:
    """Cut ``jobs`` into units of at most ``size`` rows that hold whole groups (a larger group is cut) of one split.

    Rows are taken in order. Where that does not lead to a unit of ``done`` (key -> marks of its rows) whose rows are
    all there, because others were put between them, that unit is kept and the rest is cut around it.
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


def pack(jobs: Sequence[MarkedJob], size: int) -> Iterator[list[MarkedJob]]:
    """Cut ``jobs`` into lists of at most ``size`` rows that hold whole groups (a larger group is cut)."""
    batch: list[MarkedJob] = []
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


def _runs(jobs: Sequence[MarkedJob]) -> Iterator[list[MarkedJob]]:
    run: list[MarkedJob] = []
    for job in jobs:
        if run and run[0].job["row"]["group"] != job.job["row"]["group"]:
            yield run
            run = []
        run.append(job)
    if run:
        yield run
