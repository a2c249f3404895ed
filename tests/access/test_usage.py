"""Usage of owners by day."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from components.access.usage import Usage, UsageEntry, UsageStore
from components.database import open_database
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.jobs.tables import jobs
from tests.fixtures.job_stores import NEW

DAY = 86_400


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_database(tmp_path, None)


def test_usage_is_added_up_by_owner_and_day(engine: sa.Engine) -> None:
    store = UsageStore(engine, clock=lambda: 12.5 * DAY)
    one = Usage(requests=1, pixel_steps=100, images=2)
    store.add([UsageEntry("ada", "a", 12, one), UsageEntry("ada", "b", 12, one), UsageEntry("bob", "c", 12, one)])
    store.add([UsageEntry("ada", "a", 12, one), UsageEntry("ada", "a", 10, one), UsageEntry("ada", "a", 9, one)])
    assert store.days(3, "ada") == [UsageEntry("ada", "", 12, Usage(3, 300, 6)), UsageEntry("ada", "", 10, one)]
    assert [(entry.owner, entry.day) for entry in store.days(3)] == [("ada", 12), ("bob", 12), ("ada", 10)]


def test_gateways_add_at_the_same_time(engine: sa.Engine) -> None:
    def add(_: int) -> None:
        UsageStore(engine).add([UsageEntry("ada", "a", 12, Usage(requests=1))])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    (entry,) = UsageStore(engine, clock=lambda: 12.0 * DAY).days(1)
    assert entry.used == Usage(requests=40)


def test_a_job_is_counted_when_it_is_done_and_once(engine: sa.Engine, tmp_path: Path) -> None:
    results = ResultFiles(tmp_path)
    store, queue = JobStore(engine, results, 10), JobQueue(engine, results, 30, 3)
    job, _ = store.submit(type(NEW)(**vars(NEW) | {"owner": "ada", "key_id": "k", "pixel_steps": 500}))
    store.submit(type(NEW)(**vars(NEW) | {"owner": "ada"}))
    usage = UsageStore(engine)
    lease = queue.claim()
    assert lease is not None and lease.job == job.id and usage.days(1) == []
    assert queue.finish(lease, b"") and queue.finish(lease, b"")
    (entry,) = usage.days(1, "ada")
    assert entry.used == Usage(0, 500, 2)
    failed = queue.claim()
    assert failed is not None and queue.fail(failed, {"message": "x"})
    assert usage.days(1, "ada") == [entry]


def test_a_job_of_an_earlier_release_is_counted_by_its_images(engine: sa.Engine, tmp_path: Path) -> None:
    results = ResultFiles(tmp_path)
    store, queue = JobStore(engine, results, 10), JobQueue(engine, results, 30, 3)
    store.submit(NEW)
    with engine.begin() as connection:
        connection.execute(jobs.update().values(key_id=None, pixel_steps=None))
    lease = queue.claim()
    assert lease is not None and queue.finish(lease, b"")
    assert [entry.used for entry in UsageStore(engine).days(1, "")] == [Usage(0, 0, 2)]
