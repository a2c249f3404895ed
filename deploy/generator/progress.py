"""Follows the requests of one order through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from components.engine import request as engine
from components.engine.future import ImageFuture
from components.engine.request import Phase
from components.jobs.job import JobProgress


class OrderProgress:
    """What the requests of an order have told: by the engine's thread, read in the event loop that made this."""

    def __init__(self, handles: Sequence[ImageFuture]) -> None:
        self._handles = handles
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._looks: dict[int, engine.StepProgress] = {}
        for index, handle in enumerate(handles):
            handle.add_progress_callback(partial(self._tell, index))

    async def until(self, end: asyncio.Future[Any]) -> AsyncIterator[JobProgress]:
        """How far the order is, whenever that has changed, until ``end`` is done."""
        end.add_done_callback(lambda _: self._changed.set())
        while not end.done():
            await self._changed.wait()
            self._changed.clear()
            yield self._progress()

    def looks(self) -> dict[int, engine.StepProgress]:
        """The newest latents, by picture, that came since the last call."""
        looks, self._looks = self._looks, {}
        return looks

    def _tell(self, index: int, progress: engine.StepProgress) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, index, progress)

    def _take(self, index: int, progress: engine.StepProgress) -> None:
        if progress.latents is not None and progress.step < progress.total:
            self._looks[index] = progress
        self._changed.set()

    def _progress(self) -> JobProgress:
        seen = [handle.progress or engine.StepProgress(0, handle.request.steps) for handle in self._handles]
        done = sum(handle.phase is Phase.DONE for handle in self._handles)
        return JobProgress(sum(p.step for p in seen), sum(p.total for p in seen), done, len(self._handles))
