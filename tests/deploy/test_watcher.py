"""Event streams of jobs, and those of stories, share one poll of the database."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from components.config import StoriesConfig
from components.database import open_database
from components.jobs.job import JobNotFoundError, JobUpdate, NewJob
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.object_store import below, open_object_store
from components.stories.store import StoryStore
from components.stories.story import Story, StoryCursor, StoryNews, StoryNotFoundError
from components.stories.takes import COLLECTOR, PendingTake, TakeStore
from deploy.watcher import Watcher


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


class JobWatcher(Watcher[int]):
    """As `deploy.jobs.service.JobService` watches jobs."""

    def __init__(self, store: CountingStore, interval_s: float) -> None:
        super().__init__("jobs", store.revisions, interval_s)
        self._store = store

    async def news(self, job: str, revision: int, wait_s: float, owner: str = "") -> JobUpdate | None:
        return await self.watch(job, revision, partial(self._store.update_since, job, revision, owner), wait_s)


def submitted(store: JobStore, count: int) -> list[str]:
    return [store.submit(NewJob({}, "digest", 1, 1))[0].id for _ in range(count)]


def test_a_hundred_streams_make_one_query_a_tick(store: CountingStore) -> None:
    ids = submitted(store, 10)

    async def watch() -> list[JobUpdate | None]:
        watcher = JobWatcher(store, 0.2)
        watching = [asyncio.create_task(watcher.news(ids[i % 10], 1, 1.0)) for i in range(100)]
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
            asyncio.create_task(watcher.news(job, 1, within_s))
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
        known = await watcher.news(changing, 1, 5)
        assert known is not None, "a change before is told at once"
        with pytest.raises(JobNotFoundError):
            await watcher.news(changing, 1, 5, "another")
        watcher.close()

    asyncio.run(watch())


def test_any_number_of_jobs_is_polled_at_once(store: CountingStore) -> None:
    ids = submitted(store, 3)
    missing = [f"job-{number:028x}" for number in range(1200)]
    assert store.revisions([*missing, *ids]) == dict.fromkeys(ids, 1)
    assert store.revisions([]) == {}


class CountingStories(StoryStore):
    """Counts its reads."""

    polls = reads = 0

    def cursors(self, identifiers: Sequence[str]) -> dict[str, StoryCursor]:
        self.polls += 1
        return super().cursors(identifiers)

    def news(self, story: str, cursor: StoryCursor, owner: str = "") -> StoryNews | None:
        self.reads += 1
        return super().news(story, cursor, owner)


class StoryWatcher(Watcher[StoryCursor]):
    """As `deploy.stories.service.StoryService` watches stories."""

    def __init__(self, store: StoryStore, interval_s: float) -> None:
        super().__init__("stories", store.cursors, interval_s, StoryCursor.is_behind)
        self._store = store

    async def after(self, story: str, cursor: StoryCursor, wait_s: float) -> StoryNews | None:
        return await self.watch(story, cursor, partial(self._store.news, story, cursor), wait_s)


def written(stories: StoryStore, count: int) -> list[Story]:
    return [stories.create({"title": "t"}, [{"prompt": "a robot"}])[0] for _ in range(count)]


def test_streams_of_stories_make_one_query_a_tick(tmp_path: Path) -> None:
    stories = CountingStories(open_database(tmp_path, None), StoriesConfig())
    some = written(stories, 10)

    async def watch() -> list[StoryNews | None]:
        watcher = StoryWatcher(stories, 0.2)
        cursors = [StoryCursor(story.changes) for story in some]
        watching = [asyncio.create_task(watcher.after(some[i % 10].id, cursors[i % 10], 1.0)) for i in range(100)]
        try:
            return await asyncio.gather(*watching)
        finally:
            watcher.close()

    assert asyncio.run(watch()) == [None] * 100
    assert stories.polls <= 6 and stories.reads <= 200, "at the beginning and at the end"


def test_edits_jobs_and_deletions_of_stories_reach_those_who_wait(store: CountingStore, tmp_path: Path) -> None:
    engine = open_database(tmp_path, None)
    stories = StoryStore(engine, StoriesConfig())
    takes = TakeStore(engine, open_object_store(tmp_path), ResultFiles(below(tmp_path, "jobs")), StoriesConfig())
    edited, drawn, deleted = written(stories, 3)
    pending = PendingTake("story/1", drawn.panels[0].id, 0.0, 0, {"prompt": "p", "characters": []}, "digest")
    takes.register_jobs(drawn.id, [pending])
    cursors = stories.cursors([edited.id, drawn.id, deleted.id, "story-unknown"])
    assert cursors.keys() == {edited.id, drawn.id, deleted.id}

    async def watch() -> None:
        watcher = StoryWatcher(stories, 0.05)
        watching = [asyncio.create_task(watcher.after(each, cursors[each], 20.0)) for each in cursors]
        quiet = asyncio.create_task(watcher.after(edited.id, StoryCursor(10**6), 0.8))
        await asyncio.sleep(0.2)
        assert not any(each.done() for each in watching)
        await asyncio.to_thread(stories.change, edited.id, {"title": "another"})
        new = NewJob({}, "digest", 1, 1, key="story/1", collector=COLLECTOR)
        job, _ = await asyncio.to_thread(store.submit, new)
        await asyncio.to_thread(stories.delete, deleted.id)
        told = await asyncio.wait_for(asyncio.gather(*watching, return_exceptions=True), 10)
        assert isinstance(told[0], StoryNews) and told[0].story is not None and told[0].story.title == "another"
        assert isinstance(told[1], StoryNews) and told[1].cursor.jobs == {job.id: job.revision}
        assert isinstance(told[2], StoryNotFoundError)
        assert await quiet is None
        watcher.close()

    asyncio.run(watch())
