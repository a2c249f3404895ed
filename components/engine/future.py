"""`ImageFuture`: what whoever submitted a request holds of it, from any thread or event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from PIL import Image

from components.engine.request import AFTER, CancelledError, ExpiredError, Phase, Request, StepProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A finished picture, and the last influence mask of each of its acting subjects as grey pictures."""

    image: Image.Image
    masks: list[Image.Image]


class ImageFuture:
    """One submitted request.

    Args:
        clock: the engine's.
        wake: called when the engine has to look at the request again.
    """

    def __init__(self, request: Request, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self.request = request
        self.phase = Phase.QUEUED
        #: When each phase began, on the engine's clock.
        self.since = {Phase.QUEUED: clock()}
        #: The last step's; None before the first.
        self.progress: StepProgress | None = None
        #: When its first step was done, on the engine's clock.
        self.first_step: float | None = None
        self.cancelled = False
        self._clock, self._wake = clock, wake
        self._future: Future[Picture] = Future()
        self._future.set_running_or_notify_cancel()  # the engine alone decides how it ends
        self._watchers: list[Callable[[StepProgress], None]] = []
        self._watching = threading.Lock()

    def cancel(self) -> None:
        """End the request at the next step; without effect once it is done."""
        self.cancelled = True
        self._wake()

    def result(self, timeout: float | None = None) -> Picture:
        """Wait for the picture.

        Raises:
            CancelledError, ExpiredError: it ended early.
            TimeoutError: it did not end within ``timeout`` seconds.
            Exception: whatever the request failed with.
        """
        return self._future.result(timeout)

    async def picture(self) -> Picture:
        """Like `result`, in an event loop; to cancel this wait is to cancel the request."""
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def watch(self, watcher: Callable[[StepProgress], None]) -> None:
        """Have ``watcher`` called after every step, by the engine's thread: it must be quick."""
        with self._watching:
            self._watchers.append(watcher)

    async def steps(self) -> AsyncIterator[StepProgress]:
        """The progress from now on, until the request ends in whatever way."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[StepProgress | None] = asyncio.Queue()

        def put(progress: StepProgress | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, progress)

        self.watch(put)
        self._future.add_done_callback(lambda _: put(None))
        while (progress := await queue.get()) is not None:
            yield progress

    def seconds(self, first: Phase, last: Phase) -> float:
        """From the beginning of one phase to that of another; 0 if either was never reached."""
        return self.since[last] - self.since[first] if {first, last} <= self.since.keys() else 0.0

    # What follows is the engine's.

    def move(self, phase: Phase) -> None:
        """Enter ``phase``."""
        assert phase in AFTER[self.phase], f"{self.phase} is not followed by {phase}"
        self.phase = phase
        self.since[phase] = self._clock()

    def tell(self, progress: StepProgress) -> None:
        """Let those who watch know. One who fails is told no more."""
        self.progress = progress
        if self.first_step is None:
            self.first_step = self._clock()
        with self._watching:
            watchers = list(self._watchers)
        for watcher in watchers:
            try:
                watcher(progress)
            except Exception:
                log.exception("a watcher of a request's progress failed")
                with self._watching:
                    self._watchers.remove(watcher)

    def end(self, phase: Phase, outcome: Any = None) -> None:
        """Enter a final ``phase`` with a `Picture` or, if it failed, with an exception."""
        self.move(phase)
        if phase is Phase.DONE:
            self._future.set_result(outcome)
        elif phase is Phase.CANCELLED:
            self._future.set_exception(CancelledError("the request was cancelled"))
        elif phase is Phase.EXPIRED:
            self._future.set_exception(ExpiredError("the request was not done by its deadline"))
        else:
            self._future.set_exception(outcome)
