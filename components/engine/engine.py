"""The denoising engine: requests of one size advance together, one U-Net call a step, and come and go between steps.

A request is queued, encoded when it is its turn and there is room, denoised in the lane of its size, and decoded.
One thread encodes and denoises, a second decodes. Whatever befalls one request, its neighbours go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from components.engine.floor import Floor
from components.engine.handle import Handle, Picture
from components.engine.pace import Pace
from components.engine.policy import early_end
from components.engine.request import ClosedError, Draft, Phase, Pipeline, Progress, Request
from components.engine.stats import Stats
from components.engine.steps import advance, begin

log = logging.getLogger(__name__)

T = TypeVar("T")


class Engine:
    """Draws the pictures of many requests at the same time.

    Args:
        pipeline: nobody else may call it meanwhile; `beside` reaches its other parts.
        pixel_budget: most pixels drawn at the same time. A picture that is larger is drawn alone.
        clock: of deadlines.
        max_queued: requests that may be queued; any number by default.
        max_owned: requests of one owner that may be; the owner ``""`` is nobody in particular, and has no limit.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pixel_budget: int,
        clock: Callable[[], float] = time.monotonic,
        max_queued: int | None = None,
        max_owned: int | None = None,
    ) -> None:
        self._pipeline, self._clock = pipeline, clock
        self._changed = threading.Condition()  # guards all that follows
        self._floor = Floor(pixel_budget, max_queued, max_owned)
        self._unfinished: set[Handle] = set()
        self._pace = Pace()
        self._decoding = self._errands = 0
        self._ended: Counter[Phase] = Counter()
        self._moved = clock()
        self._closing = self._abandoned = False
        self._worker: threading.Thread | None = None
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder")

    def submit(self, request: Request) -> Handle:
        """Queue a request; see `submit_all`."""
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[Request]) -> list[Handle]:
        """Queue requests of one owner, all or none.

        Raises:
            ClosedError: the engine is closing.
            FullError: too many requests are queued; ExcessError if it is the owner's own that are too many.
        """
        handles = [Handle(request, self._clock, self._wake) for request in requests]
        with self._changed:
            if self._closing:
                raise ClosedError("the engine takes no more requests")
            self._floor.check_room(requests)
            self._rouse()
            self._floor.queue.extend(handles)
            self._unfinished.update(handles)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
                self._worker.start()
            self._changed.notify()
        return handles

    def beside(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run something else on the pipeline's parts, beside the steps and in turn with the decoding.

        Raises:
            ClosedError: the engine is closed.
        """
        with self._changed:
            try:
                future = self._beside.submit(function, *arguments)
            except RuntimeError:
                raise ClosedError("the engine is closed") from None
            self._rouse()
            self._errands += 1
        future.add_done_callback(lambda _: self._errand_done())
        return future

    def stats(self) -> Stats:
        with self._changed:
            return Stats(
                queued=len(self._floor.queue),
                denoising=len(self._floor.denoising),
                decoding=self._decoding,
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

    def close(self, timeout: float | None = None) -> bool:
        """Take no more requests and finish those that are there; False if that took longer than ``timeout`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._worker is not None:
            self._worker.join(timeout)
            if self._worker.is_alive():
                return False
        self._beside.shutdown(wait=not self._abandoned)
        return True

    def abandon(self) -> None:
        """Take no more requests and fail those that are there with ClosedError: the pipeline does not come back."""
        with self._changed:
            self._closing = self._abandoned = True
            self._floor.clear()
            everybody = list(self._unfinished)
            self._changed.notify()
        for handle in everybody:
            self._end(handle, Phase.FAILED, ClosedError("the engine was given up"))

    def _idle(self) -> bool:
        return not (self._unfinished or self._errands)

    def _rouse(self) -> None:
        """Silence is counted from when there is something to do."""
        if self._idle():
            self._moved = self._clock()

    def _errand_done(self) -> None:
        with self._changed:
            self._errands -= 1
            self._moved = self._clock()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    @torch.no_grad()
    def _work(self) -> None:
        while self._wait():
            try:
                self._drop_ended()
                self._admit()
                self._step()
            except Exception as error:  # a fault of the engine: nobody may wait for ever for what it lost hold of
                log.exception("the engine failed in the middle of a step")
                self._fail_all(error)

    def _wait(self) -> bool:
        """Until there is something to do; False once there never will be."""
        with self._changed:
            while self._floor.empty:
                if self._closing:
                    return False
                self._changed.wait()
        return True

    def _drop_ended(self) -> None:
        with self._changed:
            ended = self._floor.drop_ended(self._clock())
        for handle, phase in ended:
            self._end(handle, phase)

    def _admit(self) -> None:
        while True:
            with self._changed:
                handle = self._floor.admit()
            if handle is None:
                return
            handle.move(Phase.ENCODING)
            try:
                draft = begin(self._pipeline, handle.request)
            except Exception as error:
                self._end(handle, Phase.FAILED, error)
                continue
            handle.move(Phase.DENOISING)
            with self._changed:
                self._floor.join(handle, draft, self._pipeline.crowd)
                self._moved = self._clock()

    def _step(self) -> None:
        """One U-Net call for the lane whose turn it is."""
        with self._changed:
            lane = self._floor.next_lane()
            members = [] if lane is None else list(lane.members)
        if lane is None:
            return
        started = self._clock()
        failures = advance(lane.crowd, [draft for _, draft in members])
        with self._changed:
            self._moved = self._clock()
            pixels = sum(handle.request.pixels for handle, _ in members)
            self._pace.count(self._moved - started, len(members), pixels)
        for (handle, draft), failure in zip(members, failures, strict=True):
            if failure is None:
                self._tell(handle, draft)
            if failure is not None or draft.done:
                with self._changed:
                    self._floor.release(handle)
            if failure is not None:
                self._end(handle, Phase.FAILED, failure)
            elif draft.done:
                self._decode_later(handle, draft)

    def _tell(self, handle: Handle, draft: Draft) -> None:
        every = handle.request.preview_every
        wanted = every > 0 and draft.step % every == 0
        handle.tell(Progress(draft.step, draft.total, draft.latents if wanted else None))

    def _decode_later(self, handle: Handle, draft: Draft) -> None:
        handle.move(Phase.DECODING)
        with self._changed:
            self._decoding += 1
        self._beside.submit(self._decode, handle, draft)

    def _decode(self, handle: Handle, draft: Draft) -> None:
        outcome: Any = None
        try:
            phase = early_end(handle.cancelled, handle.request.deadline, self._clock())
            if phase is None:
                output = self._pipeline.finish(draft)
                phase, outcome = Phase.DONE, Picture(output.images[0], output.masks[0] if output.masks else [])
        except Exception as error:
            phase, outcome = Phase.FAILED, error
        with self._changed:
            self._decoding -= 1
        self._end(handle, phase, outcome)

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            self._floor.clear()
            lost = [handle for handle in self._unfinished if handle.phase is not Phase.DECODING]
        for handle in lost:
            self._end(handle, Phase.FAILED, error)

    def _end(self, handle: Handle, phase: Phase, outcome: Any = None) -> None:
        with self._changed:
            if handle not in self._unfinished:  # it was given up
                return
            self._unfinished.remove(handle)
            self._ended[phase] += 1
            self._moved = self._clock()
        handle.end(phase, outcome)
