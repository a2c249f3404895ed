"""What tests of jobs need: a clock that they turn, and an empty database of either kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.database import open_database
from components.jobs.job import NewJob
from components.jobs.outbox import Outbox
from components.jobs.queue import JobQueue
from components.jobs.results import ResultFiles
from components.jobs.store import JobStore
from components.jobs.tables import TABLES

NEW = NewJob(payload={"prompt": "a robot"}, digest="d", steps=8, pictures=2)
LEASE_S, ATTEMPTS = 10.0, 3


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Office:
    """A store, a queue and an outbox over one database, on one clock."""

    def __init__(self, directory: Path, database: str, max_queued: int = 5) -> None:
        self.clock, self.files = Clock(), ResultFiles(directory / "results")
        self.engine = open_database(directory, database, TABLES)
        self.store = JobStore(self.engine, self.files, max_queued, self.clock)
        self.queue = JobQueue(self.engine, self.files, LEASE_S, ATTEMPTS, self.clock)
        self.outbox = Outbox(self.engine, attempts=3, backoff_s=5, clock=self.clock)

    def submit(self, **fields: object) -> str:
        return self.store.submit(replace(NEW, **fields))[0].id  # type: ignore[arg-type]

    def state(self, job: str, owner: str = "") -> str:
        return self.store.get(job, owner).state


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path / 'jobs.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def office(tmp_path: Path, database: str) -> Office:
    return Office(tmp_path, database)
