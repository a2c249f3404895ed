"""Follows the requests of one order through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from components.engine import request as engine
from components.engine.handle import Handle
from components.engine.request import Phase
from components.jobs.job import Progress


class Watch:
    """What the requests of an order have told: by the engine's thread, read in the event loop that made this."""

    def __init__(self, handles: Sequence[Handle]) -> None:
        self._handles = handles
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._looks: dict[int, engine.Progress] = {}
        for index, handle in enumerate(handles):
            handle.watch(partial(self._tell, index))

    async def until(self, end: asyncio.Future[Any]) -> AsyncIterator[Progress]:
        """How far the order is, whenever that has changed, until ``end`` is done."""
        end.add_done_callback(lambda _: self._changed.set())
        while not end.done():
            await self._changed.wait()
            self._changed.clear()
            yield self._progress()

    def looks(self) -> dict[int, engine.Progress]:
        """The newest latents, by picture, that came since the last call."""
        looks, self._looks = self._looks, {}
        return looks

    def _tell(self, index: int, progress: engine.Progress) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, index, progress)

    def _take(self, index: int, progress: engine.Progress) -> None:
        if progress.latents is not None and progress.step < progress.total:
            self._looks[index] = progress
        self._changed.set()

    def _progress(self) -> Progress:
        seen = [handle.progress or engine.Progress(0, handle.request.steps) for handle in self._handles]
        done = sum(handle.phase is Phase.DONE for handle in self._handles)
        return Progress(sum(p.step for p in seen), sum(p.total for p in seen), done, len(self._handles))
