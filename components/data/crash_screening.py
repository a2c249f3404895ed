"""Pictures that bring down the process that reads them, found by reading them in a process that may die."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from components.data.curate import curate
from components.data.plan import Job
from components.data.schema import Reject
from components.data.subject_image import CurateSettings


class Screened(NamedTuple):
    """Jobs that are safe to curate, and the others."""

    jobs: list[Job]
    rejects: list[Reject]


def screen(jobs: Sequence[Job], settings: CurateSettings) -> Screened:
    """Try each of ``jobs`` alone. It takes twice the time and some seconds more for every process that dies.

    Raises:
        RealCustomError: as `curate`.
    """
    kept: list[Job] = []
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
    """One process that shares nothing with this one."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _try(job: Job, settings: CurateSettings) -> None:
    curate([job], settings)
