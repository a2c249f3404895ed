"""What the engine knows, under one lock: who is unfinished, where they are, when something last moved."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from components.engine.future import ImageFuture
from components.engine.request import ClosedError, DenoisingState, Phase
from components.engine.request_queue import Lane, RequestQueue
from components.engine.stats import Stats
from components.engine.throughput import Throughput


class EngineState:
    """May be used from any thread.

    Args:
        clock: in seconds.
    """

    def __init__(self, floor: RequestQueue, clock: Callable[[], float]) -> None:
        self._floor, self._clock, self._pace = floor, clock, Throughput()
        self._changed = threading.Condition()  # guards all of it
        self._unfinished: set[ImageFuture] = set()
        self._errands = 0
        self._ended: Counter[Phase] = Counter()
        self._moved = clock()
        self._closing = False

    def enter(self, handles: Sequence[ImageFuture]) -> None:
        """Queue the requests of one owner.

        Raises:
            ClosedError: nothing is taken any more.
            FullError, ExcessError: see `RequestQueue.check_room`.
        """
        with self._changed:
            if self._closing:
                raise ClosedError("the engine takes no more requests")
            self._floor.check_room([handle.request for handle in handles])
            self._rouse()
            self._floor.queue.extend(handles)
            self._unfinished.update(handles)
            self._changed.notify()

    def wait(self) -> bool:
        """Until somebody is queued or being denoised; False once nobody ever will be."""
        with self._changed:
            while self._floor.empty:
                if self._closing:
                    return False
                self._changed.wait()
        return True

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def drop_ended(self) -> list[tuple[ImageFuture, Phase]]:
        with self._changed:
            return self._floor.drop_ended(self._clock())

    def admit(self) -> ImageFuture | None:
        with self._changed:
            return self._floor.admit()

    def join(self, handle: ImageFuture, draft: DenoisingState, crowd: Callable[[], Any]) -> None:
        with self._changed:
            self._floor.join(handle, draft, crowd)
            self._moved = self._clock()

    def next_lane(self) -> tuple[Lane, list[tuple[ImageFuture, DenoisingState]]] | None:
        """The lane whose turn it is, and who is in it now."""
        with self._changed:
            lane = self._floor.next_lane()
            return None if lane is None else (lane, list(lane.members))

    def count_step(self, seconds: float, members: Sequence[tuple[ImageFuture, DenoisingState]]) -> None:
        with self._changed:
            self._moved = self._clock()
            self._pace.count(seconds, len(members), sum(handle.request.pixels for handle, _ in members))

    def release(self, handle: ImageFuture) -> None:
        """It needs no more steps."""
        with self._changed:
            self._floor.release(handle)

    def end(self, handle: ImageFuture, phase: Phase, outcome: Any = None) -> None:
        """A request ends, in whatever way; one that was given up has done so already."""
        with self._changed:
            if handle not in self._unfinished:
                return
            self._unfinished.remove(handle)
            self._ended[phase] += 1
            self._moved = self._clock()
        handle.end(phase, outcome)

    def begin_errand(self) -> None:
        """Something is done that is no request."""
        with self._changed:
            self._rouse()
            self._errands += 1

    def end_errand(self) -> None:
        with self._changed:
            self._errands -= 1
            self._moved = self._clock()

    def close(self) -> None:
        """Take nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def clear(self) -> list[ImageFuture]:
        """Nobody is queued or denoised any more; who is unfinished, and not being decoded."""
        with self._changed:
            self._floor.clear()
            return [handle for handle in self._unfinished if handle.phase is not Phase.DECODING]

    def abandon(self) -> list[ImageFuture]:
        """Take nothing more, nobody is anywhere any more; everybody who is unfinished."""
        with self._changed:
            self._closing = True
            self._floor.clear()
            self._changed.notify()
            return list(self._unfinished)

    def stats(self) -> Stats:
        with self._changed:
            return Stats(
                queued=len(self._floor.queue),
                denoising=len(self._floor.denoising),
                decoding=sum(handle.phase is Phase.DECODING for handle in self._unfinished),
                pixels=self._floor.pixels,
                budget=self._floor.budget,
                batch=self._pace.batch,
                step_s=self._pace.step_s,
                backlog_s=self._pace.seconds_for(self._floor.owed),
                steps=self._pace.steps,
                step_seconds=self._pace.seconds,
                pictures=self._pace.pictures,
                ended=dict(self._ended),
                silent_s=0.0 if self._idle() else self._clock() - self._moved,
            )

    def _idle(self) -> bool:
        return not (self._unfinished or self._errands)

    def _rouse(self) -> None:
        """Silence is counted from when there is something to do."""
        if self._idle():
            self._moved = self._clock()
