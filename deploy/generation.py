"""The generator part: orders in, pictures out. Knows nothing of HTTP or Serve.

An order of n pictures becomes n requests to the denoising engine, one a seed. Requests of all orders share its steps; a
picture does not depend on its company.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from components.config import SamplingConfig
from components.engine import request as engine
from components.engine.budget import measure_budget
from components.engine.engine import Engine
from components.engine.handle import Handle
from components.engine.request import ClosedError, ExpiredError, Phase, Request
from components.engine.stats import Stats
from components.errors import ConfigError
from components.jobs.job import Preview, Progress
from components.model.schedulers import new_scheduler
from components.model.subjects import Subject as PromptSubject
from deploy.casting import Cast, Casting, Encoder, Namer
from deploy.characters import to_png
from deploy.pictures_out import Marks, PictureWriter
from deploy.progress import Watch
from deploy.protocols import Delivery, Drawing, Order, OrderError, SubjectSource, UnavailableError

#: Pixels drawn at the same time where nobody measured what pays: one picture of SDXL's size.
PIXEL_BUDGET = 1024 * 1024


class Pipeline(engine.Pipeline, Encoder, Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that is used here."""

    #: Of diffusers.
    scheduler: Any

    def preview(self, latents: Tensor) -> Image.Image: ...


class GenerationService:
    """`Generator` over one pipeline.

    Args:
        pixel_budget: the engine's.
        timeout_s: for orders that do not say how long they may take; none is for ever.
        write: makes files of pictures, and knows which model the pipeline is.
        namer: see `deploy.casting.Casting`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        characters: SubjectSource,
        pixel_budget: int = PIXEL_BUDGET,
        timeout_s: float | None = None,
        write: PictureWriter | None = None,
        namer: Callable[[], Namer] | None = None,
    ) -> None:
        self._pipeline, self._timeout_s = pipeline, timeout_s
        self._write = write or PictureWriter()
        self._engine = Engine(pipeline, pixel_budget)
        self._casting = Casting(pipeline, characters, self._engine.beside, namer)

    async def generate(self, order: Order) -> Delivery:
        """Draw an order's pictures.

        Raises:
            WordError: the prompt does not hold the subject's word.
            OrderError: this model cannot draw it as it is asked for.
            NotFoundError: the character is gone.
            UnavailableError: it took longer than the order allows, or the generator is closing.
        """
        async with aclosing(self.draw(order)) as told:
            *_, delivery = [news async for news in told]
        assert isinstance(delivery, Delivery), "which is what a drawing ends with"
        return delivery

    async def draw(self, order: Order, previews: int = 0) -> AsyncGenerator[Progress | Preview | Delivery, None]:
        """Draw an order's pictures and tell how far they are, with ``previews`` of each, until they are delivered.

        It raises what `generate` raises.
        """
        started = time.monotonic()
        cast = await self._casting.cast(order)
        encoded = time.monotonic()
        timeout = self._timeout_s if order.timeout_s is None else order.timeout_s
        deadline = None if timeout is None else started + timeout
        handles: list[Handle] = []
        try:
            for request in self._requests(order, cast, deadline, previews):
                handles.append(self._engine.submit(request))
            end = asyncio.gather(*(self._drawing(order, cast, handle) for handle in handles))
            watch = Watch(handles)
            async for progress in watch.until(end):
                yield progress
                for picture, seen in watch.looks().items():
                    yield await self._preview(picture, seen)
            drawings = await end
        except ClosedError:
            raise UnavailableError("a part of the service is being restarted; try again") from None
        except ExpiredError:
            raise UnavailableError("the pictures were not done in time; try again later") from None
        finally:
            for handle in handles:  # whatever became of one, nobody waits for the others any more
                handle.cancel()
        draw_s = max(drawing.seconds for drawing in drawings)
        wait_s = time.monotonic() - encoded - draw_s
        timings = {"subject_s": encoded - started, "wait_s": wait_s, "draw_s": draw_s}
        notes = [*order.notes, *_notes(order, cast)]
        yield Delivery(drawings, timings, notes, cast.prompt, cast.words, self._write.model.version)

    def stats(self) -> Stats:
        """What the engine is doing."""
        return self._engine.stats()

    def close(self, timeout: float | None = None) -> bool:
        """Finish what was begun and take nothing more; False if that took longer than ``timeout`` seconds."""
        return self._engine.close(timeout)

    async def _preview(self, picture: int, seen: engine.Progress) -> Preview:
        small = await asyncio.wrap_future(self._engine.beside(self._pipeline.preview, seen.latents))
        return Preview(picture, seen.step, await asyncio.to_thread(to_png, small))

    async def _drawing(self, order: Order, cast: Cast, handle: Handle) -> Drawing:
        picture = await handle.picture()
        asked = handle.request
        marks = Marks(asked.seed, cast.words, asked.steps, asked.guidance_scale, order.scheduler, cast.prompt)
        image = await asyncio.to_thread(self._write, picture.image, order.output, marks)
        masks = await asyncio.to_thread(lambda: tuple(to_png(mask) for mask in picture.masks))
        return Drawing(image, masks, handle.seconds(Phase.ENCODING, Phase.DONE))

    def _requests(self, order: Order, cast: Cast, deadline: float | None, previews: int) -> list[Request]:
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
            return None if name is None else new_scheduler(name, self._pipeline.scheduler)
        except ConfigError as error:
            raise OrderError(str(error), "scheduler") from None


def measured_budget(pipeline: Pipeline, sampling: SamplingConfig) -> int:
    """The pixel budget that pays on this machine, for pictures of the configured size with one subject."""
    side = pipeline.reference_size
    tokens = pipeline.encode_subject([Image.new("RGB", (side, side), "gray")])
    probe = Request(
        prompt="a thing",
        seed=0,
        width=sampling.width,
        height=sampling.height,
        steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        subjects=(PromptSubject(tokens, "thing"),),
    )
    return measure_budget(pipeline, probe)


def _notes(order: Order, cast: Cast) -> list[str]:
    """What was asked for and had no effect."""
    faceless = [
        ("", "the pictures") if subject.shown else (f"characters[{i}].", "this character's pictures")
        for i, (subject, kept) in enumerate(zip(order.subjects, cast.tokens, strict=True))
        if kept.face is None and subject.face_strength != 1
    ]
    return [f"{who}face_strength: no face is known on {where}, so it has no effect" for who, where in faceless]
