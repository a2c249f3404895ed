"""Executes generation requests. Independent of HTTP and Serve.

A request for n images becomes n requests to the denoising engine, one a seed. All of them share its steps; an image
does not depend on what else is in the batch.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from components.content import ContentCheck, ContentError
from components.engine import request as engine
from components.engine.engine import Engine
from components.engine.future import ImageFuture
from components.engine.request import ClosedError, ExpiredError, FullError, Phase, Request
from components.engine.stats import Stats
from components.errors import ConfigError
from components.jobs.job import Preview
from components.model.generation_request import PromptOptions
from components.model.loras import lora_set
from components.model.redraw import EmptyMaskError
from components.model.schedulers import new_scheduler
from components.model.subjects import Subject as PromptSubject
from components.pictures import to_png
from components.provenance.image_files import GenerationParameters, PictureWriter
from deploy.generator.request_pictures import decode_pictures
from deploy.generator.running_request import RequestProgress, RunningRequest
from deploy.generator.subject_resolver import Encoder, ResolvedSubjects, SubjectResolver
from deploy.interfaces.errors import (
    BusyError,
    OwnerLimitError,
    ReplicaDiedError,
    StatedRegionError,
    TimeLimitError,
    UnavailableError,
    UnsupportedRequestError,
)
from deploy.interfaces.generator_speed import UNKNOWN_SPEED, GeneratorSpeed
from deploy.interfaces.loaded_names import check_control, check_loras
from deploy.interfaces.protocols import Namer, SubjectSource
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GeneratedImage, GenerationEvent, GenerationResult
from deploy.status.metrics import GeneratorMetrics

#: Pixels denoised at the same time if no budget was measured: one image of SDXL's size.
PIXEL_BUDGET = 1024 * 1024
#: Factor of the limits of time: what a gateway has accepted is done although this generator has measured longer steps.
_TOLERANCE = 1.5


@dataclass(frozen=True)
class GeneratorLimits:
    """Limits of one generator.

    Args:
        pixels: denoised at the same time.
        queued, owned: images that may wait in the engine, of all owners and of one; None is unlimited.
        timeout_s: for requests without a time limit of their own; None is unlimited.
        cache_s: seconds for which a character's tokens are cached in memory.
        jobs_s: time limit of jobs in seconds.
    """

    pixels: int = PIXEL_BUDGET
    queued: int | None = None
    owned: int | None = None
    timeout_s: float | None = None
    cache_s: float = 0
    jobs_s: float = math.inf


class PromptNotes(Protocol):
    """The part of `components.model.prompt_notes.PromptReader` that a generator uses."""

    def notes(self, prompt: str, negative_prompt: str, prompt_weighting: bool) -> list[str]: ...


class Pipeline(engine.Pipeline, Encoder, Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that a generator uses."""

    #: A diffusers scheduler.
    scheduler: Any

    def preview(self, latents: Tensor) -> Image.Image: ...

    def compile(self) -> None: ...

    def no_subject_tokens(self) -> Tensor: ...

    @property
    def lora_names(self) -> Sequence[str]: ...

    @property
    def control_names(self) -> Sequence[str]: ...

    @property
    def control_shares(self) -> Mapping[str, float]: ...

    def prompt_reader(self) -> PromptNotes: ...


class GenerationService:
    """`Generator` over one pipeline, which nothing else may use meanwhile.

    Args:
        write: encodes images and marks them with the model's name and version.
        namer: see `deploy.generator.subject_resolver.SubjectResolver`.
        content: the check that generated images and their previews must pass, if any.
        speed: as it was measured.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        characters: SubjectSource,
        limits: GeneratorLimits = GeneratorLimits(),
        write: PictureWriter | None = None,
        namer: Callable[[], Namer] | None = None,
        metrics: GeneratorMetrics | None = None,
        content: ContentCheck | None = None,
        speed: GeneratorSpeed = UNKNOWN_SPEED,
    ) -> None:
        self.speed = speed
        self.pipeline, self._limits = pipeline, limits
        self._prompt_reader = pipeline.prompt_reader()
        self._write = write or PictureWriter()
        self._metrics, self._content = metrics or GeneratorMetrics(), content
        self._engine = Engine(
            pipeline, limits.pixels, max_queued=limits.queued, max_owned=limits.owned, step_times=speed.times
        )
        run_beside, count = self._engine.beside, self._metrics.count_tokens
        self._subjects = SubjectResolver(pipeline, characters, run_beside, namer, count, limits.cache_s)

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        """Generate a request's images.

        Raises:
            WordError: the prompt does not contain a subject's word.
            UnsupportedRequestError: this model cannot execute the request.
            StatedRegionError: a mask covers no latent.
            BeyondTimeLimitError: it cannot be done in time.
            NotFoundError: a character was deleted.
            ContentError: the content policy refuses a generated image.
            UnavailableError: the request timed out, or the generator is closing.
            BusyError: too many images are queued; OwnerLimitError if they are the owner's own.
        """
        async with self._running(request) as running:
            return await running.result()

    async def encode_character(self, character: str, revision: int, owner: str = "") -> None:
        """Compute and store the tokens of a character's images at ``revision``, unless they are stored.

        Raises:
            NotFoundError: the character was deleted.
            UnavailableError: the generator is closing.
        """
        try:
            await self._subjects.encode_character(character, revision)
        except ClosedError:
            raise UnavailableError("a part of the service is being restarted; try again") from None

    async def stream(self, request: GenerationRequest, previews: int = 0) -> AsyncGenerator[GenerationEvent, None]:
        """Yield progress and ``previews`` previews of each image, then the result. Raises what `generate` raises."""
        async with self._running(request, previews) as running:
            tracker = RequestProgress(running.futures)
            async for progress in tracker.until(running.images):
                yield progress
                for index, step in tracker.new_latents().items():
                    preview = await asyncio.wrap_future(self._engine.beside(self.pipeline.preview, step.latents))
                    if await self._passes_content_check(preview):
                        yield Preview(index, step.step, await asyncio.to_thread(to_png, preview))
            yield await running.result()

    @property
    def version(self) -> str:
        """The model's version."""
        return self._write.model.version

    @property
    def _retry_after_s(self) -> float:
        """Seconds until half of the queue is done."""
        return self._engine.stats().backlog_s / 2

    def stats(self) -> Stats:
        """The engine's statistics."""
        return self._engine.stats()

    def close(self, timeout: float | None = None) -> bool:
        """Accept no more requests and finish the running ones; False if that took more than ``timeout`` seconds."""
        return self._engine.close(timeout)

    def abandon(self) -> None:
        """Fail all requests without waiting for the pipeline, whose call does not return."""
        self._engine.abandon()

    @asynccontextmanager
    async def _running(self, request: GenerationRequest, previews: int = 0) -> AsyncIterator[RunningRequest]:
        """Submit a request's images to the engine; images that are unfinished when the block ends are cancelled."""
        started = time.monotonic()
        timeout = self._limits.timeout_s if request.timeout_s is None else request.timeout_s
        deadline = None if timeout is None else started + timeout
        futures: list[ImageFuture] = []
        limit_s = math.inf if timeout is None else timeout
        self.speed.check(request, limit_s, self._limits.jobs_s, _TOLERANCE)
        try:
            check_loras((name for name, _ in request.loras), self.pipeline.lora_names)
            check_control(None if request.control is None else request.control.name, self.pipeline.control_names)
            subjects = await self._subjects.resolve(request)
            pictures = await asyncio.to_thread(decode_pictures, request)
            resolved = time.monotonic()
            requests = self._engine_requests(request, subjects, deadline, previews)
            futures = self._engine.submit_all([replace(each, **pictures) for each in requests])
            images = asyncio.gather(*(self._finished_image(request, subjects, future) for future in futures))
            # Retrieve the exception even if the block ends before it is awaited, so that asyncio does not log it.
            images.add_done_callback(lambda done: done.cancelled() or done.exception())
            notes = await asyncio.to_thread(self._prompt_notes, request, subjects.prompt)
            yield RunningRequest(request, subjects, futures, images, started, resolved, self.version, notes)
        except engine.ExcessError:
            message = "too many of your own images are waiting; try again later"
            raise OwnerLimitError(message, self._retry_after_s) from None
        except FullError:
            raise BusyError("too many images are waiting; try again later", self._retry_after_s) from None
        except engine.StuckError as error:
            raise ReplicaDiedError("the generator made no progress with it", error.alone) from None
        except ClosedError:
            raise UnavailableError("a part of the service is being restarted; try again") from None
        except EmptyMaskError as error:
            raise StatedRegionError(f"mask: {str(error).partition(': ')[2]}") from None
        except ConfigError as error:  # an option that this model does not have
            raise UnsupportedRequestError(str(error), str(error).partition(":")[0]) from None
        except ExpiredError:
            raise TimeLimitError("the images were not done in time; try again later", self._retry_after_s) from None
        finally:
            for future in futures:  # if one image failed, the others are of no use
                future.cancel()
                self._metrics.count_first_step(self.version, future)

    async def _passes_content_check(self, image: Image.Image) -> bool:
        return self._content is None or await asyncio.to_thread(self._content, image)

    async def _finished_image(
        self, request: GenerationRequest, subjects: ResolvedSubjects, future: ImageFuture
    ) -> GeneratedImage:
        picture = await future.picture()
        if not await self._passes_content_check(picture.image):
            raise ContentError("the content policy of this service refuses the generated image")
        seed, steps, guidance = future.request.seed, request.steps, request.guidance_scale
        parameters = GenerationParameters(seed, subjects.words, steps, guidance, request.scheduler, subjects.prompt)
        image = await asyncio.to_thread(self._write, picture.image, request.output, parameters)
        masks = await asyncio.to_thread(lambda: tuple(to_png(mask) for mask in picture.masks))
        return GeneratedImage(image, masks, future.seconds(Phase.ENCODING, Phase.DONE))

    def _engine_requests(
        self, request: GenerationRequest, resolved: ResolvedSubjects, deadline: float | None, previews: int
    ) -> list[Request]:
        subjects = tuple(
            PromptSubject(tokens.tokens, word, s.strength, tokens.face, s.face_strength, s.body_strength)
            for s, word, tokens in zip(request.subjects, resolved.words, resolved.tokens, strict=True)
        )
        each = len(self.pipeline.no_subject_tokens()) if subjects else 1
        references = sum(len(subject.tokens) // each for subject in subjects)
        return [
            Request(
                prompt=resolved.prompt,
                seed=seed,
                width=request.width,
                height=request.height,
                steps=request.steps,
                guidance_scale=request.guidance_scale,
                negative_prompt=request.negative_prompt,
                subjects=subjects,
                mask_scope=request.mask_scope,
                scheduler=self._scheduler(request.scheduler),
                references=references,
                options=PromptOptions(**request.prompt_options),  # type: ignore[typeddict-item]
                loras=lora_set(request.loras),
                owner=request.owner,
                deadline=deadline,
                preview_every=max(1, request.unet_calls // (previews + 1)) if previews else 0,
            )
            for seed in request.seeds
        ]

    def _prompt_notes(self, request: GenerationRequest, prompt: str) -> list[str]:
        weighting = bool(request.prompt_options.get("prompt_weighting"))
        return self._prompt_reader.notes(prompt, request.negative_prompt, weighting)

    def _scheduler(self, name: str | None) -> Any:
        """A new scheduler; None makes the engine copy the pipeline's."""
        try:
            return None if name is None else new_scheduler(name, self.pipeline.scheduler)
        except ConfigError as error:
            raise UnsupportedRequestError(str(error), "scheduler") from None
