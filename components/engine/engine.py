"""The denoising engine: requests of one size are denoised together, one U-Net call a step, and join between steps.

A request is queued, encoded once it is admitted, denoised in the lane of its size, and decoded. One thread encodes and
denoises, a second one decodes, on a GPU in a stream of its own. An error of one request does not affect the others.
Owners share each call: while several have work, requests of an owner beyond its share pause.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from components.engine.decoding_stream import DecodingStream
from components.engine.engine_state import EngineState
from components.engine.future import ImageFuture, Picture
from components.engine.policy import early_end
from components.engine.request import (
    ClosedError,
    DenoisingState,
    Phase,
    Pipeline,
    Request,
    StepProgress,
    StuckError,
)
from components.engine.request_queue import RequestQueue
from components.engine.stats import Stats
from components.engine.step import advance, begin
from components.engine.step_times import NO_TIMES, StepTimes

log = logging.getLogger(__name__)

T = TypeVar("T")
_GIVEN_UP = "the engine was given up"


class Engine:
    """Generates the images of many requests at the same time.

    Args:
        pipeline: used by the engine alone; other code calls it through `beside`.
        pixel_budget: largest number of pixels of a U-Net call. A larger image is denoised alone.
        clock: the clock of deadlines, in seconds.
        max_queued: largest number of queued requests; unlimited by default.
        max_owned: largest number of queued requests of one owner; the anonymous owner ``""`` has no limit.
        step_times: durations that are expected of steps.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pixel_budget: int,
        clock: Callable[[], float] = time.monotonic,
        max_queued: int | None = None,
        max_owned: int | None = None,
        step_times: StepTimes = NO_TIMES,
    ) -> None:
        self._pipeline, self._clock, self._step_times = pipeline, clock, step_times
        self._state = EngineState(RequestQueue(pixel_budget, max_queued, max_owned), clock)
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None
        self._decoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder")
        self._decoding = DecodingStream()
        self._abandoned = False

    def submit(self, request: Request) -> ImageFuture:
        """Queue a request; see `submit_all`."""
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[Request]) -> list[ImageFuture]:
        """Queue requests of one owner, all or none.

        Raises:
            ClosedError: the engine is closing.
            FullError: the queue has no room; ExcessError if the owner's own limit is reached.
        """
        futures = [ImageFuture(request, self._clock, self._state.wake) for request in requests]
        with self._starting:
            self._state.enqueue(futures)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
                self._worker.start()
        return futures

    def beside(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run ``function`` in the decoder's thread, while the other thread goes on denoising.

        Raises:
            ClosedError: the engine is closed.
        """
        self._state.begin_task()
        try:
            future = self._decoder.submit(function, *arguments)
        except RuntimeError:
            self._state.end_task()
            raise ClosedError("the engine is closed") from None
        future.add_done_callback(lambda _: self._state.end_task())
        return future

    def stats(self) -> Stats:
        return self._state.stats()

    def close(self, timeout: float | None = None) -> bool:
        """Refuse new requests and finish the others; False if that takes longer than ``timeout`` seconds."""
        self._state.close()
        with self._starting:
            worker = self._worker
        if worker is not None:
            worker.join(timeout)
            if worker.is_alive():
                return False
        self._decoder.shutdown(wait=not self._abandoned)
        return True

    def abandon(self) -> None:
        """Refuse new requests and fail the others, for a pipeline whose call does not return.

        Requests that wait fail with ClosedError, those that may be the reason with StuckError.
        """
        self._abandoned = True
        unfinished = self._state.abandon()
        begun = sum(future.phase is not Phase.QUEUED for future in unfinished)
        for future in unfinished:
            waits = future.phase is Phase.QUEUED
            error = ClosedError(_GIVEN_UP) if waits else StuckError(_GIVEN_UP, alone=begun == 1)
            self._state.end(future, Phase.FAILED, error)

    @torch.inference_mode()  # cheaper than no_grad: 4 % of a step of the miniature on a CPU
    def _work(self) -> None:
        while self._state.wait():
            try:
                for future, phase in self._state.drop_ended():
                    self._state.end(future, phase)
                self._admit()
                self._step()
            except Exception as error:  # an error of the engine itself: every unfinished request has to end
                log.exception("the engine failed in the middle of a step")
                for future in self._state.clear():
                    self._state.end(future, Phase.FAILED, error)

    def _admit(self) -> None:
        while (future := self._state.admit()) is not None:
            future.enter(Phase.ENCODING)
            try:
                state = begin(self._pipeline, future.request)
            except Exception as error:
                self._state.end(future, Phase.FAILED, error)
                continue
            future.enter(Phase.DENOISING)
            self._state.join(future, state, self._pipeline.denoiser)

    def _step(self) -> None:
        call = self._state.next_call()
        if call is None:
            return
        self._state.expect(sum(self._step_times.seconds(future.request.pixels) for future, _ in call.members))
        started = self._clock()
        failures = advance(call.lane.denoiser, [state for _, state in call.members])
        self._state.count_step(self._clock() - started, call.members)
        for (future, state), failure in zip(call.members, failures, strict=True):
            if failure is None:
                self._report(future, state)
            if failure is not None or state.done:
                self._state.release(future)
            if failure is not None:
                self._state.end(future, Phase.FAILED, failure)
            elif state.done:
                future.enter(Phase.DECODING)
                self._decoder.submit(self._decode, future, state, self._decoding.mark(state.latents))

    def _report(self, future: ImageFuture, state: DenoisingState) -> None:
        every = future.request.preview_every
        with_latents = every > 0 and state.step % every == 0
        future.report(StepProgress(state.step, state.total, state.latents if with_latents else None))

    @torch.inference_mode()
    def _decode(self, future: ImageFuture, state: DenoisingState, denoised: Any) -> None:
        outcome: Any = None
        try:
            phase = early_end(future.cancelled, future.request.deadline, self._clock())
            if phase is None:
                with self._decoding.after(denoised, [state.latents, *state.mask_history]):
                    output = self._pipeline.finish(state)
                phase, outcome = Phase.DONE, Picture(output.images[0], output.masks[0] if output.masks else [])
        except Exception as error:
            phase, outcome = Phase.FAILED, error
        self._state.end(future, phase, outcome)
