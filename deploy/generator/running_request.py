"""A request from its submission to the engine until its result: progress, previews, timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from components.engine import request as engine
from components.engine.future import ImageFuture
from components.engine.request import Phase
from components.jobs.job import JobProgress
from deploy.generator.subject_resolver import ResolvedSubjects
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GeneratedImage, GenerationResult


@dataclass(frozen=True)
class RunningRequest:
    """A request whose images were submitted to the engine.

    Args:
        futures: one an image.
        images: resolves when all images are encoded.
        started, resolved: when the request arrived and when its subjects were resolved, by `time.monotonic`.
        version: the model version that generates it.
        prompt_notes: on how the prompts are read.
    """

    request: GenerationRequest
    subjects: ResolvedSubjects
    futures: Sequence[ImageFuture]
    images: asyncio.Future[list[GeneratedImage]]
    started: float
    resolved: float
    version: str
    prompt_notes: Sequence[str] = ()

    async def result(self) -> GenerationResult:
        """Wait for all images."""
        images = await self.images
        draw_s = max(image.seconds for image in images)
        wait_s = time.monotonic() - self.resolved - draw_s
        timings = {"subject_s": self.resolved - self.started, "wait_s": wait_s, "draw_s": draw_s}
        notes = [*self.request.notes, *self.prompt_notes, *_face_notes(self.request, self.subjects)]
        return GenerationResult(images, timings, notes, self.subjects.prompt, self.subjects.words, self.version)


class RequestProgress:
    """Collects the engine's progress reports of one request.

    The engine's thread reports; everything else belongs to the event loop that created this object.
    """

    def __init__(self, futures: Sequence[ImageFuture]) -> None:
        self._futures = futures
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._latents: dict[int, engine.StepProgress] = {}
        for index, future in enumerate(futures):
            future.add_progress_callback(partial(self._report, index))

    async def until(self, done: asyncio.Future[Any]) -> AsyncIterator[JobProgress]:
        """Yield the progress after every change, until ``done`` is done."""
        done.add_done_callback(lambda _: self._changed.set())
        while not done.done():
            await self._changed.wait()
            self._changed.clear()
            yield self._progress()

    def new_latents(self) -> dict[int, engine.StepProgress]:
        """The newest latents by image index that have arrived since the last call."""
        latents, self._latents = self._latents, {}
        return latents

    def _report(self, index: int, progress: engine.StepProgress) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._record, index, progress)

    def _record(self, index: int, progress: engine.StepProgress) -> None:
        if progress.latents is not None and progress.step < progress.total:
            self._latents[index] = progress
        self._changed.set()

    def _progress(self) -> JobProgress:
        steps = [future.progress or engine.StepProgress(0, future.request.calls) for future in self._futures]
        done = sum(future.phase is Phase.DONE for future in self._futures)
        return JobProgress(sum(s.step for s in steps), sum(s.total for s in steps), done, len(self._futures))


def _face_notes(request: GenerationRequest, subjects: ResolvedSubjects) -> list[str]:
    """A note for each subject with a ``face_strength`` but no face box."""
    faceless = [
        ("", "the pictures") if subject.uploaded else (f"characters[{i}].", "this character's pictures")
        for i, (subject, tokens) in enumerate(zip(request.subjects, subjects.tokens, strict=True))
        if tokens.face is None and subject.face_strength != 1
    ]
    return [f"{who}face_strength: no face is known on {where}, so it has no effect" for who, where in faceless]
