"""Detection of pictures that crash the process reading them, by reading each in a separate process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from components.data.curate import curate
from components.data.plan import PlannedRow
from components.data.rejects import Reject
from components.data.subject_image import CurateSettings


class Screened(NamedTuple):
    """Rows that are safe to curate, and rejects of the others."""

    jobs: list[PlannedRow]
    rejects: list[Reject]


def screen(jobs: Sequence[PlannedRow], settings: CurateSettings) -> Screened:
    """Curate each of ``jobs`` in another process. Doubles the time, and takes seconds more for every crash.

    Raises:
        RealCustomError: as `curate`.
    """
    kept: list[PlannedRow] = []
    rejects: list[Reject] = []
    pool = _pool()
    try:
        for job in jobs:
            try:
                pool.submit(_try, job, settings).result()
                kept.append(job)
            except BrokenProcessPool:
                row = job["row"]
                rejects.append(Reject(row["subject"]["id"], row["source"], "curate", "the process that read it died"))
                pool = _pool()
    finally:
        pool.shutdown()
    return Screened(kept, rejects)


def _pool() -> ProcessPoolExecutor:
    """A pool of one spawned process."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _try(job: PlannedRow, settings: CurateSettings) -> None:
    curate([job], settings)
