"""The generator part: orders in, pictures out. Knows nothing of HTTP or Serve.

An order of n pictures becomes n requests to the denoising engine, one a seed. Requests of all orders share its steps; a
picture does not depend on its company.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
from components.jobs.job import JobProgress, Preview
from components.model.schedulers import new_scheduler
from components.model.subjects import Subject as PromptSubject
from components.pictures import to_png
from components.provenance.image_files import Marks, PictureWriter
from deploy.generator.begun import RunningOrder
from deploy.generator.progress import OrderProgress
from deploy.generator.subjects import Encoder, Namer, ResolvedSubjects, SubjectResolver
from deploy.interfaces.protocols import (
    BusyError,
    Delivery,
    Drawing,
    ExcessError,
    Order,
    OrderError,
    SubjectSource,
    UnavailableError,
)
from deploy.status.metrics import GeneratorMetrics

#: Pixels drawn at the same time where nobody measured what pays: one picture of SDXL's size.
PIXEL_BUDGET = 1024 * 1024


@dataclass(frozen=True)
class GeneratorLimits:
    """How much a generator takes on.

    Args:
        pixels: drawn at the same time.
        queued, owned: pictures that may wait in the engine, of all and of one owner; any number by default.
        timeout_s: for orders that do not say how long they may take; none is for ever.
        cache_s: for which a character's tokens stay in memory.
    """

    pixels: int = PIXEL_BUDGET
    queued: int | None = None
    owned: int | None = None
    timeout_s: float | None = None
    cache_s: float = 0


class Pipeline(engine.Pipeline, Encoder, Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that is used here."""

    #: Of diffusers.
    scheduler: Any

    def preview(self, latents: Tensor) -> Image.Image: ...

    def compile(self) -> None: ...


class GenerationService:
    """`Generator` over one pipeline.

    Args:
        write: makes files of pictures, and knows which model the pipeline is.
        namer: see `deploy.generator.subjects.SubjectResolver`.
        metrics: to count in.
        content: what drawn pictures, and previews of them, have to pass, if anything.
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
    ) -> None:
        #: Nobody else may draw with it.
        self.pipeline, self._limits = pipeline, limits
        self._write = write or PictureWriter()
        self._metrics, self._content = metrics or GeneratorMetrics(), content
        self._engine = Engine(pipeline, limits.pixels, max_queued=limits.queued, max_owned=limits.owned)
        beside, count = self._engine.beside, self._metrics.count_tokens
        self._casting = SubjectResolver(pipeline, characters, beside, namer, count, limits.cache_s)

    async def generate(self, order: Order) -> Delivery:
        """Draw an order's pictures.

        Raises:
            WordError: the prompt does not hold the subject's word.
            OrderError: this model cannot draw it as it is asked for.
            NotFoundError: the character is gone.
            ContentError: the policy refuses what was drawn.
            UnavailableError: it took longer than the order allows, or the generator is closing.
            BusyError: too many pictures wait; ExcessError if they are the owner's own.
        """
        async with self._begun(order) as begun:
            return await begun.delivery()

    async def draw(self, order: Order, previews: int = 0) -> AsyncGenerator[JobProgress | Preview | Delivery, None]:
        """Draw an order's pictures and tell how far they are, with ``previews`` of each, until they are delivered.

        It raises what `generate` raises.
        """
        async with self._begun(order, previews) as begun:
            watch = OrderProgress(begun.handles)
            async for progress in watch.until(begun.end):
                yield progress
                for picture, seen in watch.looks().items():
                    small = await asyncio.wrap_future(self._engine.beside(self.pipeline.preview, seen.latents))
                    if await self._may_pass(small):
                        yield Preview(picture, seen.step, await asyncio.to_thread(to_png, small))
            yield await begun.delivery()

    @property
    def version(self) -> str:
        """Which version of the model it is."""
        return self._write.model.version

    @property
    def _room_s(self) -> float:
        """Seconds until half of what waits is done."""
        return self._engine.stats().backlog_s / 2

    def stats(self) -> Stats:
        """What the engine is doing."""
        return self._engine.stats()

    def close(self, timeout: float | None = None) -> bool:
        """Finish what was begun and take nothing more; False if that took longer than ``timeout`` seconds."""
        return self._engine.close(timeout)

    def abandon(self) -> None:
        """Give everything up: the pipeline does not come back from a call."""
        self._engine.abandon()

    @asynccontextmanager
    async def _begun(self, order: Order, previews: int = 0) -> AsyncIterator[RunningOrder]:
        """An order whose pictures are being drawn; whatever the block ends with, nothing of it goes on after it."""
        started = time.monotonic()
        timeout = self._limits.timeout_s if order.timeout_s is None else order.timeout_s
        deadline = None if timeout is None else started + timeout
        handles: list[ImageFuture] = []
        try:
            cast = await self._casting.cast(order)
            encoded = time.monotonic()
            handles = self._engine.submit_all(self._requests(order, cast, deadline, previews))
            end = asyncio.gather(*(self._drawing(order, cast, handle) for handle in handles))
            end.add_done_callback(lambda done: done.cancelled() or done.exception())  # who leaves does not ask
            yield RunningOrder(order, cast, handles, end, started, encoded, self.version)
        except engine.ExcessError:
            raise ExcessError("too many of your own pictures are waiting; try again later", self._room_s) from None
        except FullError:
            raise BusyError("too many pictures are waiting; try again later", self._room_s) from None
        except ClosedError:
            raise UnavailableError("a part of the service is being restarted; try again") from None
        except ExpiredError:
            raise UnavailableError("the pictures were not done in time; try again later", self._room_s) from None
        finally:
            for handle in handles:  # whatever became of one, nobody waits for the others any more
                handle.cancel()
                self._metrics.count_first_step(self.version, handle)

    async def _may_pass(self, picture: Image.Image) -> bool:
        return self._content is None or await asyncio.to_thread(self._content, picture)

    async def _drawing(self, order: Order, cast: ResolvedSubjects, handle: ImageFuture) -> Drawing:
        picture = await handle.picture()
        if not await self._may_pass(picture.image):
            raise ContentError("what was drawn is refused by the content policy of this service")
        asked = handle.request
        marks = Marks(asked.seed, cast.words, asked.steps, asked.guidance_scale, order.scheduler, cast.prompt)
        image = await asyncio.to_thread(self._write, picture.image, order.output, marks)
        masks = await asyncio.to_thread(lambda: tuple(to_png(mask) for mask in picture.masks))
        return Drawing(image, masks, handle.seconds(Phase.ENCODING, Phase.DONE))

    def _requests(self, order: Order, cast: ResolvedSubjects, deadline: float | None, previews: int) -> list[Request]:
        subjects = tuple(
            PromptSubject(kept.tokens, word, s.strength, kept.face, s.face_strength, s.body_strength)
            for s, word, kept in zip(order.subjects, cast.words, cast.tokens, strict=True)
        )
        return [
            Request(
                prompt=cast.prompt,
                seed=seed,
                width=order.width,
                height=order.height,
                steps=order.steps,
                guidance_scale=order.guidance_scale,
                negative_prompt=order.negative_prompt,
                subjects=subjects,
                mask_scope=order.mask_scope,
                scheduler=self._scheduler(order.scheduler),
                owner=order.owner,
                deadline=deadline,
                preview_every=max(1, order.steps // (previews + 1)) if previews else 0,
            )
            for seed in order.seeds
        ]

    def _scheduler(self, name: str | None) -> Any:
        """One for one request; none is a copy of the pipeline's."""
        try:
            return None if name is None else new_scheduler(name, self.pipeline.scheduler)
        except ConfigError as error:
            raise OrderError(str(error), "scheduler") from None
