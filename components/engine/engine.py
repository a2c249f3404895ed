"""The denoising engine: requests of one size advance together, one U-Net call a step, and come and go between steps.

A request is queued, encoded when it is its turn and there is room, denoised in the lane of its size, and decoded.
One thread encodes and denoises, a second decodes. Whatever befalls one request, its neighbours go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from components.engine.engine_state import EngineState
from components.engine.future import ImageFuture, Picture
from components.engine.policy import early_end
from components.engine.request import ClosedError, DenoisingState, Phase, Pipeline, Request, StepProgress
from components.engine.request_queue import RequestQueue
from components.engine.stats import Stats
from components.engine.step import advance, begin

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
        self._ledger = EngineState(RequestQueue(pixel_budget, max_queued, max_owned), clock)
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder")
        self._abandoned = False

    def submit(self, request: Request) -> ImageFuture:
        """Queue a request; see `submit_all`."""
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[Request]) -> list[ImageFuture]:
        """Queue requests of one owner, all or none.

        Raises:
            ClosedError: the engine is closing.
            FullError: too many requests are queued; ExcessError if it is the owner's own that are too many.
        """
        handles = [ImageFuture(request, self._clock, self._ledger.wake) for request in requests]
        with self._starting:
            self._ledger.enter(handles)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
                self._worker.start()
        return handles

    def beside(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run something else on the pipeline's parts, beside the steps and in turn with the decoding.

        Raises:
            ClosedError: the engine is closed.
        """
        self._ledger.begin_errand()
        try:
            future = self._beside.submit(function, *arguments)
        except RuntimeError:
            self._ledger.end_errand()
            raise ClosedError("the engine is closed") from None
        future.add_done_callback(lambda _: self._ledger.end_errand())
        return future

    def stats(self) -> Stats:
        return self._ledger.stats()

    def close(self, timeout: float | None = None) -> bool:
        """Take no more requests and finish those that are there; False if that took longer than ``timeout`` seconds."""
        self._ledger.close()
        with self._starting:
            worker = self._worker
        if worker is not None:
            worker.join(timeout)
            if worker.is_alive():
                return False
        self._beside.shutdown(wait=not self._abandoned)
        return True

    def abandon(self) -> None:
        """Take no more requests and fail those that are there with ClosedError: the pipeline does not come back."""
        self._abandoned = True
        for handle in self._ledger.abandon():
            self._ledger.end(handle, Phase.FAILED, ClosedError("the engine was given up"))

    @torch.inference_mode()  # which costs each operation less than no_grad: 4 % of a step of the miniature on a CPU
    def _work(self) -> None:
        while self._ledger.wait():
            try:
                for handle, phase in self._ledger.drop_ended():
                    self._ledger.end(handle, phase)
                self._admit()
                self._step()
            except Exception as error:  # a fault of the engine: nobody may wait for ever for what it lost hold of
                log.exception("the engine failed in the middle of a step")
                for handle in self._ledger.clear():
                    self._ledger.end(handle, Phase.FAILED, error)

    def _admit(self) -> None:
        while (handle := self._ledger.admit()) is not None:
            handle.move(Phase.ENCODING)
            try:
                draft = begin(self._pipeline, handle.request)
            except Exception as error:
                self._ledger.end(handle, Phase.FAILED, error)
                continue
            handle.move(Phase.DENOISING)
            self._ledger.join(handle, draft, self._pipeline.crowd)

    def _step(self) -> None:
        """One U-Net call for the lane whose turn it is."""
        turn = self._ledger.next_lane()
        if turn is None:
            return
        lane, members = turn
        started = self._clock()
        failures = advance(lane.crowd, [draft for _, draft in members])
        self._ledger.count_step(self._clock() - started, members)
        for (handle, draft), failure in zip(members, failures, strict=True):
            if failure is None:
                self._tell(handle, draft)
            if failure is not None or draft.done:
                self._ledger.release(handle)
            if failure is not None:
                self._ledger.end(handle, Phase.FAILED, failure)
            elif draft.done:
                handle.move(Phase.DECODING)
                self._beside.submit(self._decode, handle, draft)

    def _tell(self, handle: ImageFuture, draft: DenoisingState) -> None:
        every = handle.request.preview_every
        wanted = every > 0 and draft.step % every == 0
        handle.tell(StepProgress(draft.step, draft.total, draft.latents if wanted else None))

    @torch.inference_mode()
    def _decode(self, handle: ImageFuture, draft: DenoisingState) -> None:
        outcome: Any = None
        try:
            phase = early_end(handle.cancelled, handle.request.deadline, self._clock())
            if phase is None:
                output = self._pipeline.finish(draft)
                phase, outcome = Phase.DONE, Picture(output.images[0], output.masks[0] if output.masks else [])
        except Exception as error:
            phase, outcome = Phase.FAILED, error
        self._ledger.end(handle, phase, outcome)
