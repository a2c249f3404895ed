"""Stories in both kinds of database: several writers, and takes that survive whoever dies."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from components.access.limits import RequestId
from components.config import StoriesConfig
from components.database import open_database
from components.jobs.job import NewJob
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.jobs.tables import jobs
from components.object_store import open_object_store
from components.stories.store import StoryStore
from components.stories.story import RevisionError, Story, StoryCursor, StoryLimitError
from components.stories.tables import panel_jobs, takes
from components.stories.takes import COLLECTOR, PendingTake, TakeStore
from tests.fixtures.job_stores import Clock
from tests.stories.conftest import picture

SETTINGS: dict[str, Any] = {"prompt": "p", "characters": []}


class Shelf:
    """The stores of stories, takes and jobs over one database, on one clock."""

    def __init__(self, directory: Path, database: str, **limits: int) -> None:
        self.directory, self.database, self.clock = directory, database, Clock()
        self.engine = open_database(directory, database)
        self.results = ResultFiles(directory / "jobs")
        self.jobs = JobStore(self.engine, self.results, 1000, self.clock)
        self.queue = JobQueue(self.engine, self.results, 30, 3, self.clock)
        config = StoriesConfig(**limits)
        self.stories = StoryStore(self.engine, config, self.clock)
        self.takes = TakeStore(self.engine, open_object_store(directory), self.results, config, self.clock)

    def create(self, *prompts: str, owner: str = "", **values: Any) -> Story:
        panels: Any = [{"prompt": prompt} for prompt in prompts]
        return self.stories.create({"title": "T", **values}, panels, owner)[0]  # type: ignore[typeddict-item]

    def send(self, story: Story, panel: str, name: str, owner: str = "", variation: int = 0) -> str:
        """Have a panel drawn: name a job, and submit it."""
        key = f"story/{name}/{variation}"
        pending = PendingTake(key, panel, self.clock(), variation, SETTINGS, "digest")
        self.takes.register_jobs(story.id, [pending], owner)
        new = NewJob({}, "d", 4, 1, owner, key, collector=COLLECTOR)
        return self.jobs.submit(new)[0].id

    def finish(self, *colors: str) -> str:
        """Draw the next job; its id."""
        lease = self.queue.claim()
        assert lease is not None
        assert self.queue.finish(lease, result(*(colors or ("red",))))
        return lease.job

    def count(self, table: sa.Table) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def result(*colors: str) -> bytes:
    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    data = [{"b64_json": encoded(picture(color)), "masks_b64_json": [encoded(b"mask")]} for color in colors]
    answer = {"data": data, "size": "64x64", "model": "m", "model_version": "7", "seed": 5}
    return json.dumps(answer).encode()


@pytest.fixture
def shelf(tmp_path: Path, database: str) -> Shelf:
    return Shelf(tmp_path, database)


# Editing


def test_owners_are_strictly_apart(shelf: Shelf) -> None:
    story = shelf.create("one", owner="ada")
    panel = story.panels[0].id
    shelf.send(story, panel, "a", "ada")
    shelf.finish()
    shelf.takes.collect()
    take = shelf.stories.get(story.id, "ada").panels[0].takes[0].id
    attempts: list[Callable[[], Any]] = [
        lambda: shelf.stories.get(story.id, "bob"),
        lambda: shelf.stories.change(story.id, {"title": "Mine"}, "bob"),
        lambda: shelf.stories.delete(story.id, "bob"),
        lambda: shelf.stories.add_panels(story.id, [{}], None, "bob"),
        lambda: shelf.stories.change_panel(story.id, panel, {"prompt": "x"}, "bob"),
        lambda: shelf.stories.delete_panel(story.id, panel, "bob"),
        lambda: shelf.stories.duplicate(story.id, panel, "bob"),
        lambda: shelf.stories.order(story.id, [panel], "bob"),
        lambda: shelf.stories.news(story.id, StoryCursor(), "bob"),
        lambda: shelf.stories.delete_take(story.id, take, "bob"),
        lambda: shelf.takes.plan(story.id, None, 1, "bob"),
        lambda: shelf.takes.jobs_of(story.id, panel, "bob"),
        lambda: shelf.takes.get(story.id, take, "bob"),
    ]
    for attempt in attempts:
        with pytest.raises(Exception, match="there is no such story"):
            attempt()
    assert shelf.stories.page(owner="bob") == []
    other = shelf.create("one", owner="bob")
    with pytest.raises(Exception, match="no such panel"):
        shelf.stories.change_panel(other.id, panel, {"prompt": "x"}, "bob")
    with pytest.raises(Exception, match="no such take"):
        shelf.takes.get(other.id, take, "bob")
    assert shelf.stories.get(story.id, "ada").panels[0].prompt == "one"


def test_of_two_edits_of_one_revision_one_wins(shelf: Shelf) -> None:
    story = shelf.create("one")

    def edit(title: str) -> bool:
        try:
            shelf.stories.change(story.id, {"title": title}, expected=story.revision)
        except RevisionError as error:
            assert error.revision == story.revision + 1
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(edit, map(str, range(8))))
    assert won.count(True) == 1
    assert shelf.stories.get(story.id).title == str(won.index(True))


def test_panels_added_at_the_same_time_all_come_each_at_a_place_of_its_own(shelf: Shelf) -> None:
    story = shelf.create("first")

    def add(index: int) -> None:
        shelf.stories.add_panels(story.id, [{"prompt": f"{index}a"}, {"prompt": f"{index}b"}], "start")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    prompts = [panel.prompt for panel in shelf.stories.get(story.id).panels]
    assert len(prompts) == 13 and prompts[-1] == "first"
    assert all(first[:-1] == second[:-1] for first, second in zip(prompts[:-1:2], prompts[1::2], strict=True))


def test_a_key_makes_one_story_however_often_and_at_the_same_time(shelf: Shelf) -> None:
    def create(_: int) -> tuple[str, bool]:
        story, new = shelf.stories.create({"title": "T"}, [{"prompt": "one"}], "ada", RequestId("k", "d"))
        return story.id, new

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(create, range(6)))
    assert len({identifier for identifier, _ in made}) == 1 and [new for _, new in made].count(True) == 1
    assert len(shelf.stories.page(owner="ada")) == 1


def test_limits_hold(tmp_path: Path, database: str) -> None:
    shelf = Shelf(tmp_path, database, max_stories=2, max_panels=3, max_takes_bytes=100)
    story = shelf.create("one", "two")
    shelf.create()
    with pytest.raises(StoryLimitError, match="2 stories"):
        shelf.create()
    shelf.create(owner="bob")
    shelf.stories.add_panels(story.id, [{}])
    for add in (
        lambda: shelf.stories.add_panels(story.id, [{}]),
        lambda: shelf.stories.duplicate(story.id, story.panels[0].id),
    ):
        with pytest.raises(StoryLimitError, match="3 panels"):
            add()
    assert len(shelf.stories.get(story.id).panels) == 3
    shelf.send(story, story.panels[0].id, "a")
    shelf.finish()
    shelf.takes.collect()
    with pytest.raises(StoryLimitError, match="100 bytes"):
        shelf.takes.plan(story.id, None, 1)
    left = shelf.stories.get(story.id).panels[0].takes
    assert len(left) == 1, "what was begun is kept"


# From jobs to takes


def test_a_job_becomes_a_take_once(shelf: Shelf) -> None:
    story = shelf.create("one", "two")
    panel = story.panels[0].id
    job = shelf.send(story, panel, "a")
    assert shelf.takes.jobs_of(story.id, panel) == [job]
    assert shelf.takes.collect() is False
    shelf.finish("red")
    assert shelf.takes.collect() is True and shelf.takes.collect() is False
    found = shelf.stories.get(story.id).panels[0]
    assert [take.id for take in found.takes] == [found.chosen] and found.job is None
    assert shelf.takes.files.picture(story.id, found.takes[0].id) == picture("red")
    assert shelf.takes.files.mask(story.id, found.takes[0].id, 0) == b"mask"
    assert found.takes[0].seed == 5 and found.takes[0].settings == SETTINGS
    assert shelf.count(panel_jobs) == 0


def test_collectors_that_work_at_the_same_time_make_each_take_once(shelf: Shelf) -> None:
    story = shelf.create(*map(str, range(6)))
    for index, panel in enumerate(story.panels):
        shelf.send(story, panel.id, str(index))
        shelf.finish()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: shelf.takes.collect(), range(8)))
    assert [len(panel.takes) for panel in shelf.stories.get(story.id).panels] == [1] * 6
    assert shelf.count(takes) == 6 and shelf.count(panel_jobs) == 0


@contextmanager
def dying(store: TakeStore, method: str, at: int = 0, after: bool = False) -> Iterator[None]:
    """``method`` of the take store dies at its call number ``at``, before or after its work."""
    original, calls = getattr(store, method), iter(range(1000))

    def die(*arguments: Any, **named: Any) -> Any:
        if next(calls) != at:
            return original(*arguments, **named)
        if after:
            original(*arguments, **named)
        raise SystemExit("killed")

    setattr(store, method, die)
    try:
        yield
    finally:
        setattr(store, method, original)


@pytest.mark.parametrize(("method", "after"), [("_write", False), ("_write", True), ("_finish_job", False)])
def test_a_collector_that_dies_in_the_middle_loses_and_doubles_nothing(shelf: Shelf, method: str, after: bool) -> None:
    story = shelf.create("one")
    panel = story.panels[0].id
    shelf.send(story, panel, "a")
    shelf.finish("blue")
    with dying(shelf.takes, method, after=after), pytest.raises(SystemExit):
        shelf.takes.collect()
    assert shelf.stories.get(story.id).panels[0].takes == ()
    shelf.clock.now += 10 * 86_400
    assert shelf.jobs.sweep(keep_s=86_400) == 0, "a job whose pictures are not collected is kept"
    shelf.takes.sweep()
    again = Shelf(shelf.directory, shelf.database)
    assert again.takes.collect() is True
    found = again.stories.get(story.id).panels[0]
    assert len(found.takes) == 1
    assert again.takes.files.picture(story.id, found.takes[0].id) == picture("blue")
    assert shelf.jobs.sweep(keep_s=86_400) == 1, "and not any longer"


def test_a_transaction_that_dies_before_its_end_is_done_again(shelf: Shelf) -> None:
    story = shelf.create("one")
    shelf.send(story, story.panels[0].id, "a")
    shelf.finish()

    def break_off(*_: Any) -> None:
        raise SystemExit("killed")

    sa.event.listen(shelf.engine, "commit", break_off)
    with pytest.raises(SystemExit):
        shelf.takes.collect()
    sa.event.remove(shelf.engine, "commit", break_off)
    assert shelf.stories.get(story.id).panels[0].takes == ()
    shelf.takes.collect()
    assert len(shelf.stories.get(story.id).panels[0].takes) == 1


def test_a_gateway_that_dies_before_it_submits_leaves_nothing(shelf: Shelf) -> None:
    story = shelf.create("one")
    panel = story.panels[0].id
    shelf.takes.register_jobs(story.id, [PendingTake("story/x/0", panel, shelf.clock(), 0, SETTINGS, "d")])
    found = shelf.stories.get(story.id).panels[0]
    assert found.job is None and found.takes == ()
    shelf.takes.sweep()
    assert shelf.count(panel_jobs) == 1, "it may be about to"
    shelf.clock.now += 3600
    shelf.takes.sweep()
    assert shelf.count(panel_jobs) == 0


def test_a_gateway_that_dies_after_it_submits_loses_no_take(shelf: Shelf) -> None:
    """Nothing is written between the job and its take: the job is found by its key."""
    story = shelf.create("one")
    shelf.send(story, story.panels[0].id, "a")
    shelf.clock.now += 3600
    shelf.takes.sweep()
    shelf.finish()
    shelf.takes.collect()
    assert len(shelf.stories.get(story.id).panels[0].takes) == 1
    # The same request, sent again.
    assert shelf.send(story, story.panels[0].id, "a")
    shelf.clock.now += 3600
    shelf.takes.collect()
    shelf.takes.sweep()
    found = shelf.stories.get(story.id).panels[0]
    assert len(found.takes) == 1 and found.job is None and shelf.count(panel_jobs) == 0


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path, database: str) -> None:
    """Collectors in processes of their own, killed at any moment until all takes are there."""
    shelf = Shelf(tmp_path, database)
    story = shelf.create(*map(str, range(12)))
    for index, panel in enumerate(story.panels):
        shelf.send(story, panel.id, str(index))
        shelf.finish("red")
    for delay_s in (0.0, 0.01, 0.03, 0.06, 0.1, None):
        command = [sys.executable, "-m", "tests.fakes.stories_process", database, str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        if delay_s is not None:
            threading.Event().wait(delay_s)
            process.kill()
        ended = process.wait(60)
        assert delay_s is not None or ended == 0
    assert [len(panel.takes) for panel in shelf.stories.get(story.id).panels] == [1] * 12
    assert shelf.count(takes) == 12 and shelf.count(panel_jobs) == 0


def test_what_was_drawn_for_what_is_deleted_is_thrown_away(shelf: Shelf) -> None:
    story, other = shelf.create("one", "two"), shelf.create("three")
    for of, panel, name in ((story, story.panels[0].id, "a"), (other, other.panels[0].id, "b")):
        shelf.send(of, panel, name)
    jobs_left = shelf.stories.delete_panel(story.id, story.panels[0].id).jobs
    assert len(jobs_left) == 1
    assert len(shelf.stories.delete(other.id).jobs) == 1
    shelf.finish()
    shelf.finish()
    shelf.takes.collect()
    assert shelf.count(takes) == 0 and shelf.takes.sweep(older_than_s=0) == 0
    with shelf.engine.connect() as connection:
        assert connection.execute(sa.select(jobs.c.collector)).scalars().all() == [None, None]


def test_files_without_rows_are_swept_away(shelf: Shelf) -> None:
    story = shelf.create("one")
    shelf.send(story, story.panels[0].id, "a")
    shelf.finish()
    shelf.takes.collect()
    take = shelf.stories.get(story.id).panels[0].takes[0].id
    shelf.takes.files.thumbnail(story.id, take, 128)
    shelf.takes.files.write(story.id, "take-" + "0" * 30, b"left by a crash", [])
    shelf.takes.files.write("story-" + "0" * 28, "take-" + "0" * 30, b"left by a crash", [])
    assert shelf.takes.sweep(older_than_s=3600) == 0, "somebody may just be writing them"
    assert shelf.takes.sweep(older_than_s=0) == 2
    assert shelf.takes.files.picture(story.id, take) == picture("red")
    assert shelf.takes.files.thumbnail(story.id, take, 128)


def test_a_result_that_is_gone_is_told_and_waits_for_nobody(shelf: Shelf) -> None:
    story = shelf.create("one")
    job = shelf.send(story, story.panels[0].id, "a")
    shelf.finish()
    with shelf.engine.connect() as connection:
        token = connection.execute(sa.select(jobs.c.token).where(jobs.c.id == job)).scalar_one()
    shelf.results.discard(job, token)
    assert shelf.takes.collect() is True and shelf.takes.collect() is False
    panel = shelf.stories.get(story.id).panels[0]
    assert panel.error is not None and panel.error["code"] == "result_lost" and panel.job is None


def test_somebodys_choice_outlasts_what_was_sent_before(shelf: Shelf) -> None:
    story = shelf.create("one")
    panel = story.panels[0].id
    shelf.send(story, panel, "a")
    shelf.finish("red")
    shelf.takes.collect()
    first = shelf.stories.get(story.id).panels[0].takes[0].id
    shelf.send(story, panel, "b")
    shelf.stories.change_panel(story.id, panel, {}, chosen=first)
    shelf.send(story, panel, "c")
    shelf.finish("blue")
    shelf.takes.collect()
    assert shelf.stories.get(story.id).panels[0].chosen == first
    last = shelf.finish("green")
    shelf.takes.collect()
    chosen = shelf.stories.get(story.id).panels[0].chosen
    assert chosen is not None and last.rpartition("-")[2] in chosen


# News


def test_news_are_what_has_changed_since(shelf: Shelf) -> None:
    story = shelf.create("one", "two")
    news = shelf.stories.news(story.id, StoryCursor())
    assert news is not None and news.story is not None and len(news.panels) == 2
    assert news.order == tuple(panel.id for panel in story.panels)
    seen = news.cursor
    assert shelf.stories.news(story.id, seen) is None
    shelf.stories.change_panel(story.id, story.panels[1].id, {"prompt": "three"})
    news = shelf.stories.news(story.id, seen)
    assert news is not None and news.story is None and [panel.prompt for panel in news.panels] == ["three"]
    seen = news.cursor

    job = shelf.send(story, story.panels[0].id, "a")
    news = shelf.stories.news(story.id, seen)
    assert news is not None and [panel.job and panel.job.id for panel in news.panels] == [job]
    assert shelf.stories.news(story.id, news.cursor) is None
    seen = news.cursor
    shelf.finish()
    news = shelf.stories.news(story.id, seen)
    assert news is not None and len(news.panels) == 1
    shelf.takes.collect()
    news = shelf.stories.news(story.id, news.cursor)
    assert news is not None and len(news.panels[0].takes) == 1 and news.panels[0].job is None
    shelf.stories.order(story.id, [panel.id for panel in reversed(story.panels)])
    news = shelf.stories.news(story.id, news.cursor)
    assert news is not None and news.panels == () and news.order[0] == story.panels[1].id
