"""Event streams of jobs share one poll of the database."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from components.database import open_database
from components.jobs.job import JobNotFoundError, JobUpdate, NewJob
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.object_store import below
from deploy.jobs.watcher import JobWatcher


class CountingStore(JobStore):
    """Counts its reads, and the threads that they run in."""

    polls = reads = 0

    def __init__(self, folder: Path) -> None:
        results = ResultFiles(below(folder, "jobs"))
        super().__init__(open_database(folder, None), results, 1000)
        self.threads: set[str] = set()

    def revisions(self, identifiers: Sequence[str]) -> dict[str, int]:
        self.polls += 1
        self.threads.add(threading.current_thread().name)
        return super().revisions(identifiers)

    def update_since(self, identifier: str, revision: int, owner: str = "") -> JobUpdate | None:
        self.reads += 1
        self.threads.add(threading.current_thread().name)
        return super().update_since(identifier, revision, owner)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    yield CountingStore(tmp_path)


def submitted(store: JobStore, count: int) -> list[str]:
    return [store.submit(NewJob({}, "digest", 1, 1))[0].id for _ in range(count)]


def test_a_hundred_streams_make_one_query_a_tick(store: CountingStore) -> None:
    ids = submitted(store, 10)

    async def watch() -> list[JobUpdate | None]:
        watcher = JobWatcher(store, 0.2)
        watching = [asyncio.create_task(watcher.watch(ids[i % 10], 1, 1.0, "")) for i in range(100)]
        try:
            return await asyncio.gather(*watching)
        finally:
            watcher.close()

    assert asyncio.run(watch()) == [None] * 100
    assert store.polls <= 6, "not one for each stream"
    assert store.reads <= 200, "at the beginning and at the end"
    assert all(name.startswith("watcher") for name in store.threads), "not where leases are renewed"


def test_a_change_reaches_those_who_wait_for_it(store: CountingStore) -> None:
    changing, deleted, quiet = submitted(store, 3)

    async def watch() -> None:
        watcher = JobWatcher(store, 0.05)
        first, second, gone, none = (
            asyncio.create_task(watcher.watch(job, 1, within_s, ""))
            for job, within_s in ((changing, 20.0), (changing, 20.0), (deleted, 20.0), (quiet, 0.8))
        )
        await asyncio.sleep(0.2)
        started = time.monotonic()
        for job in (changing, deleted, deleted):
            await asyncio.to_thread(store.cancel, job)
        for update in (await first, await second):
            assert update is not None and update.job.id == changing and update.job.revision > 1
        try:
            update = await gone
            assert update is not None and update.job.state.final, "the poll came between"
        except JobNotFoundError:
            pass
        assert time.monotonic() - started < 5
        assert await none is None
        known = await watcher.watch(changing, 1, 5, "")
        assert known is not None, "a change before is told at once"
        with pytest.raises(JobNotFoundError):
            await watcher.watch(changing, 1, 5, "another")
        watcher.close()

    asyncio.run(watch())


def test_any_number_of_jobs_is_polled_at_once(store: CountingStore) -> None:
    ids = submitted(store, 3)
    missing = [f"job-{number:028x}" for number in range(1200)]
    assert store.revisions([*missing, *ids]) == dict.fromkeys(ids, 1)
    assert store.revisions([]) == {}
