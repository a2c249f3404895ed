"""Stores stories and the history, and collects the results of panel jobs. Independent of HTTP and Serve.

All state is in the database and the object store: after a crash a new replica continues.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Any

import sqlalchemy as sa

from components.access.limits import RequestId
from components.access.stored_answers import AnswerStore
from components.characters.store import CharacterStore
from components.config import Config
from components.content import input_check
from components.database import open_service_database
from components.history.generation import Generation, NewGeneration
from components.history.store import HistoryStore
from components.jobs.result_files import ResultFiles
from components.object_store import below, open_object_store
from components.provenance.manifests import composite_signer
from components.stories.export.book import make_book
from components.stories.export.comic import write_cbz, write_pictures
from components.stories.export.importing import StoryImporter
from components.stories.export.long_picture import write_long_picture
from components.stories.export.pdf import write_pdf
from components.stories.export.story_file import write_story
from components.stories.panel_plan import PanelPlan
from components.stories.store import Deleted, StoryStore
from components.stories.stored_responses import find_response, store_response
from components.stories.story import PagesLayout, Panel, PanelValues, Story, StoryCursor, StoryNews, StoryValues
from components.stories.takes import PendingTake, TakeStore
from deploy.background import every, in_database_thread, repeat
from deploy.watcher import Watcher

log = logging.getLogger(__name__)
_WRITERS = {"pdf": write_pdf, "cbz": write_cbz, "zip": write_pictures, "png": write_long_picture}
#: Seconds between two deletions of expired rows; and of stored answers, which are listed.
_EXPIRY_INTERVAL_S, _ANSWERS_INTERVAL_S = 60.0, 600.0


class StoryService:
    """Implements `Stories` with a `StoryStore`, a `TakeStore` and a `HistoryStore`; blocking calls run in threads."""

    def __init__(self, config: Config) -> None:
        place = config.serving.store
        self._engine = open_service_database(config.serving)
        limits, self._jobs = config.serving.stories, config.serving.jobs
        self._stories = StoryStore(self._engine, limits)
        results = ResultFiles(below(place, "jobs"))
        blobs = open_object_store(place)
        self._answers = AnswerStore(blobs)
        self._takes = TakeStore(self._engine, blobs, results, limits)
        self._history = HistoryStore(self._engine, blobs, self._stories, limits)
        serving = config.serving
        self._orphans_s = serving.orphans_s
        self._characters = CharacterStore(place, serving.database, serving.database_limits, serving.quotas)
        self._importer = StoryImporter(
            self._engine,
            self._takes.files,
            self._characters,
            limits,
            config.serving.max_upload_pixels,
            2 * config.vision.view_size,
            input_check(config.serving.content),
        )
        self._sign = composite_signer(serving)
        self._watcher = Watcher("stories", self._stories.cursors, self._jobs.tick_s, StoryCursor.is_behind)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the background tasks in the running event loop."""
        works = (
            (self._takes.collect, self._jobs.tick_s),
            (self._expire, _EXPIRY_INTERVAL_S),
            (self._expire_answers, _ANSWERS_INTERVAL_S),
        )
        loops = [repeat("stories", partial(in_database_thread, work), partial(asyncio.sleep, s)) for work, s in works]
        loops.append(every(self._orphans_s, "stories", self._remove_orphans))
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    def check(self) -> None:
        """Raise RuntimeError if a background task has ended."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError("a background task of the stories has ended")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._watcher.close()

    async def create(
        self, values: StoryValues, panels: list[PanelValues], owner: str = "", request: RequestId | None = None
    ) -> tuple[Story, bool]:
        return await in_database_thread(self._stories.create, values, panels, owner, request)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Story]:
        return await in_database_thread(self._stories.page, limit, after, owner)

    async def get(self, identifier: str, owner: str = "") -> Story:
        return await in_database_thread(self._stories.get, identifier, owner)

    async def change(self, identifier: str, values: StoryValues, owner: str = "", expected: int | None = None) -> Story:
        return await in_database_thread(self._stories.change, identifier, values, owner, expected)

    async def delete(self, identifier: str, owner: str = "", expected: int | None = None) -> list[str]:
        def delete() -> Deleted:
            deleted = self._stories.delete(identifier, owner, expected)
            self._takes.files.clear(identifier)
            return deleted

        return (await in_database_thread(delete)).jobs

    async def add_panels(
        self,
        story: str,
        values: list[PanelValues],
        after: str | None = None,
        owner: str = "",
        request: RequestId | None = None,
    ) -> tuple[list[Panel], bool]:
        return await in_database_thread(self._stories.add_panels, story, values, after, owner, request)

    async def get_panel(self, story: str, panel: str, owner: str = "") -> Panel:
        return await in_database_thread(self._stories.get_panel, story, panel, owner)

    async def change_panel(
        self,
        story: str,
        panel: str,
        values: PanelValues,
        owner: str = "",
        expected: int | None = None,
        chosen: str | None = None,
    ) -> Panel:
        return await in_database_thread(self._stories.change_panel, story, panel, values, owner, expected, chosen)

    async def delete_panel(self, story: str, panel: str, owner: str = "", expected: int | None = None) -> list[str]:
        def delete() -> Deleted:
            deleted = self._stories.delete_panel(story, panel, owner, expected)
            self._takes.files.discard(story, deleted.takes)
            return deleted

        return (await in_database_thread(delete)).jobs

    async def duplicate(
        self, story: str, panel: str, owner: str = "", request: RequestId | None = None
    ) -> tuple[Panel, bool]:
        return await in_database_thread(self._stories.duplicate, story, panel, owner, request)

    async def order(self, story: str, panels: list[str], owner: str = "", expected: int | None = None) -> Story:
        return await in_database_thread(self._stories.order, story, panels, owner, expected)

    async def plan(self, story: str, panels: list[str] | None, n: int, owner: str = "") -> list[PanelPlan]:
        def plan() -> list[PanelPlan]:
            plans = self._takes.plan(story, panels, n, owner)
            self._history.check_quota(owner)
            return plans

        return await in_database_thread(plan)

    async def register_jobs(self, story: str, pending: list[PendingTake], owner: str = "") -> None:
        await in_database_thread(self._takes.register_jobs, story, pending, owner)

    async def unregister_jobs(self, keys: list[str], owner: str = "") -> None:
        await in_database_thread(self._takes.unregister_jobs, keys, owner)

    async def record_errors(self, story: str, errors: dict[str, dict[str, Any]], owner: str = "") -> None:
        await in_database_thread(self._takes.record_errors, story, errors, owner)

    async def jobs_of(self, story: str, panel: str, owner: str = "") -> list[str]:
        return await in_database_thread(self._takes.jobs_of, story, panel, owner)

    async def find_response(self, request: RequestId, owner: str = "") -> Any | None:
        """See `components.stories.stored_responses.find_response`."""

        def read() -> Any | None:
            with self._engine.connect() as connection:
                return find_response(connection, owner, request)

        return await in_database_thread(read)

    async def store_response(self, request: RequestId, answer: Any, owner: str = "") -> None:
        def store() -> None:
            try:
                with self._engine.begin() as connection:
                    store_response(connection, owner, request, answer, time.time())
            except sa.exc.IntegrityError:  # a concurrent request with the same key
                log.debug("a response to this idempotency key is stored already")

        await in_database_thread(store)

    async def watch(self, story: str, cursor: StoryCursor, wait_s: float, owner: str = "") -> StoryNews | None:
        return await self._watcher.watch(story, cursor, partial(self._stories.news, story, cursor, owner), wait_s)

    async def check_take(self, story: str, take: str, owner: str = "") -> None:
        await in_database_thread(self._takes.get, story, take, owner)

    async def picture(self, story: str, take: str, owner: str = "") -> bytes:
        def read() -> bytes:
            self._takes.get(story, take, owner)
            return self._takes.files.picture(story, take)

        return await in_database_thread(read)

    async def mask(self, story: str, take: str, index: int, owner: str = "") -> bytes:
        def read() -> bytes:
            self._takes.get(story, take, owner)
            return self._takes.files.mask(story, take, index)

        return await in_database_thread(read)

    async def thumbnail(self, story: str, take: str, size: int, owner: str = "") -> bytes:
        def read() -> bytes:
            self._takes.get(story, take, owner)
            return self._takes.files.thumbnail(story, take, size)

        return await in_database_thread(read)

    async def delete_take(self, story: str, take: str, owner: str = "") -> None:
        def delete() -> None:
            self._stories.delete_take(story, take, owner)
            self._takes.files.discard(story, [take])

        await in_database_thread(delete)

    async def export(self, story: str, kind: str, pages: PagesLayout | None = None, owner: str = "") -> bytes:
        """A story as a file.

        Args:
            kind: ``pdf``, ``cbz``, ``zip`` (of its images), ``png`` (one tall image) or ``story`` (to import).

        Raises:
            NothingToExportError: no visible panel has an image.
        """

        def export() -> bytes:
            if kind == "story":
                return write_story(self._engine, self._takes.files, self._characters, story, owner)
            read = partial(self._takes.files.picture, story)
            book = make_book(self._stories.get(story, owner), read, pages, self._sign)
            return _WRITERS[kind](book)

        return await asyncio.to_thread(export)

    async def import_story(
        self, data: bytes, owner: str = "", served: tuple[str, str] | None = None, request: RequestId | None = None
    ) -> tuple[Story, list[str], bool]:
        """See `components.stories.export.importing`; False if the same request has imported it before."""

        def import_once() -> tuple[Story, list[str], bool]:
            with self._engine.connect() as connection:
                known = find_response(connection, owner, request)
            if known is not None:
                return self._stories.get(known["story"], owner), known["notes"], False
            try:
                story, notes = self._importer.import_story(data, owner, served, request)
            except sa.exc.IntegrityError:
                if request is None:
                    raise
                return import_once()  # a concurrent request with the same key
            return self._stories.get(story, owner), notes, True

        return await in_database_thread(import_once)

    async def check_quota(self, owner: str = "") -> None:
        await in_database_thread(self._history.check_quota, owner)

    async def save_generations(self, images: list[NewGeneration], owner: str = "") -> list[str]:
        return await in_database_thread(self._history.save, images, owner)

    async def history(
        self, limit: int, after: str | None, owner: str = "", character: str | None = None, story: str | None = None
    ) -> list[Generation]:
        return await in_database_thread(self._history.page, limit, after, owner, character, story)

    async def check_generation(self, identifier: str, owner: str = "") -> None:
        await in_database_thread(self._history.get, identifier, owner)

    async def generation_picture(self, identifier: str, owner: str = "") -> bytes:
        return await in_database_thread(self._history.picture, identifier, owner)

    async def generation_thumbnail(self, identifier: str, size: int, owner: str = "") -> bytes:
        return await in_database_thread(self._history.thumbnail, identifier, size, owner)

    async def delete_generation(self, identifier: str, owner: str = "") -> None:
        await in_database_thread(self._history.delete, identifier, owner)

    def _expire(self) -> bool:
        self._takes.expire()
        self._history.expire()
        self._stories.sweep(self._jobs.keep_s)
        return False

    def _expire_answers(self) -> bool:
        self._answers.sweep()
        return False

    async def _remove_orphans(self) -> bool:
        await asyncio.to_thread(self._takes.remove_orphans)
        await asyncio.to_thread(self._history.remove_orphans)
        return False
