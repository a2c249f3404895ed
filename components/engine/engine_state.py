"""The engine's state under one lock: the queue, the unfinished requests, the throughput and the time of progress."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from components.engine.future import ImageFuture
from components.engine.request import ClosedError, DenoisingState, Phase
from components.engine.request_queue import Call, RequestQueue
from components.engine.stats import Stats
from components.engine.throughput import Throughput


class EngineState:
    """May be used from any thread.

    Args:
        clock: in seconds.
    """

    def __init__(self, queue: RequestQueue, clock: Callable[[], float]) -> None:
        self._queue, self._clock, self._throughput = queue, clock, Throughput()
        self._changed = threading.Condition()  # guards all attributes
        self._unfinished: set[ImageFuture] = set()
        self._tasks = 0
        self._ended: Counter[Phase] = Counter()
        self._last_progress, self._expected_s = clock(), 0.0
        self._closing = False

    def enqueue(self, futures: Sequence[ImageFuture]) -> None:
        """Queue the requests of one owner.

        Raises:
            ClosedError: the engine is closing.
            FullError, ExcessError: see `RequestQueue.check_room`.
        """
        with self._changed:
            if self._closing:
                raise ClosedError("the engine takes no more requests")
            self._queue.check_room([future.request for future in futures])
            self._end_idleness()
            self._queue.waiting.extend(futures)
            self._unfinished.update(futures)
            self._changed.notify()

    def wait(self) -> bool:
        """Wait until a request is queued or denoised; False once the engine is closing and there is none."""
        with self._changed:
            while self._queue.empty:
                if self._closing:
                    return False
                self._changed.wait()
        return True

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def drop_ended(self) -> list[tuple[ImageFuture, Phase]]:
        with self._changed:
            return self._queue.drop_ended(self._clock())

    def admit(self) -> ImageFuture | None:
        with self._changed:
            return self._queue.admit()

    def join(self, future: ImageFuture, state: DenoisingState, new_denoiser: Callable[[], Any]) -> None:
        with self._changed:
            self._queue.join(future, state, new_denoiser)
            self._last_progress = self._clock()

    def next_call(self) -> Call | None:
        with self._changed:
            return self._queue.next_call()

    def expect(self, seconds: float) -> None:
        """A step begins that is expected to take ``seconds``."""
        with self._changed:
            self._expected_s = seconds

    def count_step(self, seconds: float, members: Sequence[tuple[ImageFuture, DenoisingState]]) -> None:
        with self._changed:
            self._last_progress = self._clock()
            self._throughput.count(seconds, len(members), sum(future.request.pixels for future, _ in members))

    def release(self, future: ImageFuture) -> None:
        """Remove a request from its lane."""
        with self._changed:
            self._queue.release(future)

    def end(self, future: ImageFuture, phase: Phase, outcome: Any = None) -> None:
        """Give a request its outcome; without effect if it has ended already, as when the engine was abandoned."""
        with self._changed:
            if future not in self._unfinished:
                return
            self._unfinished.remove(future)
            self._ended[phase] += 1
            self._last_progress = self._clock()
        future.end(phase, outcome)

    def begin_task(self) -> None:
        """A task that is no request begins."""
        with self._changed:
            self._end_idleness()
            self._tasks += 1

    def end_task(self) -> None:
        with self._changed:
            self._tasks -= 1
            self._last_progress = self._clock()

    def close(self) -> None:
        """Refuse new requests."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def clear(self) -> list[ImageFuture]:
        """Remove all requests from queue and lanes; returns the unfinished ones that are not being decoded."""
        with self._changed:
            self._queue.clear()
            return [future for future in self._unfinished if future.phase is not Phase.DECODING]

    def abandon(self) -> list[ImageFuture]:
        """Refuse new requests and remove all others from queue and lanes; returns the unfinished ones."""
        with self._changed:
            self._closing = True
            self._queue.clear()
            self._changed.notify()
            return list(self._unfinished)

    def stats(self) -> Stats:
        with self._changed:
            return Stats(
                queued=len(self._queue.waiting),
                denoising=len(self._queue.denoising),
                decoding=sum(future.phase is Phase.DECODING for future in self._unfinished),
                pixels=self._queue.pixels,
                budget=self._queue.budget,
                batch=self._throughput.batch,
                step_s=self._throughput.step_s,
                backlog_s=self._throughput.seconds_for(self._queue.backlog),
                steps=self._throughput.steps,
                step_seconds=self._throughput.seconds,
                pictures=self._throughput.images,
                ended=dict(self._ended),
                expected_s=self._expected_s,
                silent_s=0.0 if self._idle() else self._clock() - self._last_progress,
            )

    def _idle(self) -> bool:
        return not (self._unfinished or self._tasks)

    def _end_idleness(self) -> None:
        """Count the time without progress from the moment when there is work."""
        if self._idle():
            self._last_progress = self._clock()
