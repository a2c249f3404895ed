"""`ImageFuture`: the result and progress of a submitted request, for any thread or event loop."""

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
    """A generated image, and the last influence mask of each of its active subjects as greyscale images."""

    image: Image.Image
    masks: list[Image.Image]


class ImageFuture:
    """One submitted request.

    Args:
        clock: the engine's clock, in seconds.
        wake: wakes the engine's thread after the request was cancelled.
    """

    def __init__(self, request: Request, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self.request = request
        self.phase = Phase.QUEUED
        #: Time at which each phase began, on the engine's clock.
        self.since = {Phase.QUEUED: clock()}
        #: Progress of the last step; None before the first.
        self.progress: StepProgress | None = None
        #: Time at which the first step was done, on the engine's clock.
        self.first_step: float | None = None
        self.cancelled = False
        self._clock, self._wake = clock, wake
        self._future: Future[Picture] = Future()
        self._future.set_running_or_notify_cancel()  # the engine alone decides how it ends
        self._callbacks: list[Callable[[StepProgress], None]] = []
        self._callbacks_lock = threading.Lock()

    def cancel(self) -> None:
        """End the request before its next step; without effect once it is done."""
        self.cancelled = True
        self._wake()

    def result(self, timeout: float | None = None) -> Picture:
        """Wait for the image.

        Raises:
            CancelledError, ExpiredError: the request ended early.
            TimeoutError: the request did not end within ``timeout`` seconds.
            Exception: the error with which the request failed.
        """
        return self._future.result(timeout)

    async def picture(self) -> Picture:
        """Like `result`, in an event loop. Cancelling the awaiting task cancels the request."""
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def add_progress_callback(self, callback: Callable[[StepProgress], None]) -> None:
        """Call ``callback`` after every step, in the engine's thread, which it must not block."""
        with self._callbacks_lock:
            self._callbacks.append(callback)

    async def steps(self) -> AsyncIterator[StepProgress]:
        """The progress of each following step, until the request ends."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[StepProgress | None] = asyncio.Queue()

        def put(progress: StepProgress | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, progress)

        self.add_progress_callback(put)
        self._future.add_done_callback(lambda _: put(None))
        while (progress := await queue.get()) is not None:
            yield progress

    def seconds(self, first: Phase, last: Phase) -> float:
        """Seconds from the beginning of one phase to that of another; 0 if one of them was never reached."""
        return self.since[last] - self.since[first] if {first, last} <= self.since.keys() else 0.0

    # The methods below are called by the engine.

    def enter(self, phase: Phase) -> None:
        """Enter ``phase``."""
        assert phase in AFTER[self.phase], f"{self.phase} is not followed by {phase}"
        self.phase = phase
        self.since[phase] = self._clock()

    def report(self, progress: StepProgress) -> None:
        """Call the progress callbacks; one that raises is removed."""
        self.progress = progress
        if self.first_step is None:
            self.first_step = self._clock()
        with self._callbacks_lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            try:
                callback(progress)
            except Exception:
                log.exception("a progress callback of a request failed")
                with self._callbacks_lock:
                    self._callbacks.remove(callback)

    def end(self, phase: Phase, outcome: Any = None) -> None:
        """Enter a final ``phase`` with a `Picture` or, for FAILED, with an exception."""
        self.enter(phase)
        if phase is Phase.DONE:
            self._future.set_result(outcome)
        elif phase is Phase.CANCELLED:
            self._future.set_exception(CancelledError("the request was cancelled"))
        elif phase is Phase.EXPIRED:
            self._future.set_exception(ExpiredError("the request was not done by its deadline"))
        else:
            self._future.set_exception(outcome)
