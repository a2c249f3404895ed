"""Old rows are deleted often, and the store is listed seldom."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.config import Config, load_config
from components.jobs.job import NewJob
from components.object_store import LocalObjectStore
from deploy.jobs.service import JobService
from deploy.stories.service import StoryService

NEW = NewJob(payload={"prompt": "a robot"}, digest="d", steps=8, pictures=1)


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders that were listed; expired rows are deleted all the time."""
    listed: list[str] = []
    names = LocalObjectStore.names

    def counted(store: LocalObjectStore, folder: str = "") -> list[str]:
        listed.append(folder)
        return names(store, folder)

    monkeypatch.setattr(LocalObjectStore, "names", counted)
    for service in ("jobs", "stories"):
        monkeypatch.setattr(f"deploy.{service}.service._EXPIRY_INTERVAL_S", 0.01)
    return listed


def orphans(config: Config) -> list[Path]:
    """Files of each kind that no row names, two hours old."""
    store = Path(str(config.serving.store))
    of = (f"jobs/job-{'0' * 28}.token", f"story-{'0' * 28}/take-{'0' * 30}.png", f"gen-{'0' * 28}/picture.png")
    for path in (store / name for name in of):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left by a crash")
        os.utime(path, (time.time() - 7200,) * 2)
    return [store / name for name in of]


async def until(done: Callable[[], Any], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_expired_jobs_are_deleted_without_a_listing(tmp_path: Path, listings: list[str]) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.jobs.keep_s=0.01"])

    async def run() -> None:
        jobs, stories = JobService(config, None), StoryService(config)  # type: ignore[arg-type]
        job, _ = await jobs.submit(NEW)
        await jobs.cancel(job.id)
        jobs.start()
        stories.start()
        page = await jobs.page(10, None)
        while page:
            page = await jobs.page(10, None)
        await asyncio.sleep(0.3)
        await jobs.close()
        await stories.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    assert set(listings) <= {"answers"}, "only answers, of an hour, are listed"


def test_files_that_crashes_have_left_are_removed(tmp_path: Path, listings: list[str]) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.orphans_s=0.2"])

    async def run() -> None:
        jobs, stories = JobService(config, None), StoryService(config)  # type: ignore[arg-type]
        left = orphans(config)
        jobs.start()
        stories.start()
        await until(lambda: not any(path.exists() for path in left))
        await jobs.close()
        await stories.close()

    asyncio.run(run())
    assert listings
