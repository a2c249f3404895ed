"""The generator part: orders in, pictures out. Knows nothing of HTTP or Serve.

An order of n pictures becomes n requests to the denoising engine, one a seed. Requests of all orders share its steps; a
picture does not depend on its company.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from PIL import Image
from torch import Tensor

from components.characters.store import SubjectTokens
from components.config import SamplingConfig
from components.engine import request as engine
from components.engine.budget import measure_budget
from components.engine.engine import Engine
from components.engine.handle import Handle
from components.engine.request import ClosedError, ExpiredError, Phase, Request
from components.engine.stats import Stats
from components.errors import WordError
from components.jobs.job import Preview, Progress
from components.model.subjects import Subject as PromptSubject
from components.model.words import find_word
from components.pictures import CutOut
from deploy.characters import to_png
from deploy.progress import Watch
from deploy.protocols import Delivery, Drawing, Order, Subject, SubjectSource, UnavailableError

#: Pixels drawn at the same time where nobody measured what pays: one picture of SDXL's size.
PIXEL_BUDGET = 1024 * 1024


class Pipeline(engine.Pipeline, Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that is used here."""

    @property
    def token_identity(self) -> str: ...

    @property
    def reference_size(self) -> int: ...

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor: ...

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None: ...

    def preview(self, latents: Tensor) -> Image.Image: ...


class GenerationService:
    """`Generator` over one pipeline.

    Args:
        pixel_budget: the engine's.
        timeout_s: for orders that do not say how long they may take; none is for ever.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        characters: SubjectSource,
        pixel_budget: int = PIXEL_BUDGET,
        timeout_s: float | None = None,
    ) -> None:
        self._pipeline, self._characters, self._timeout_s = pipeline, characters, timeout_s
        self._engine = Engine(pipeline, pixel_budget)

    async def generate(self, order: Order) -> Delivery:
        """Draw an order's pictures.

        Raises:
            WordError: the prompt does not hold the subject's word.
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
        tokens = tuple([await self._subject_tokens(order.prompt, subject) for subject in order.subjects])
        encoded = time.monotonic()
        timeout = self._timeout_s if order.timeout_s is None else order.timeout_s
        deadline = None if timeout is None else started + timeout
        handles: list[Handle] = []
        try:
            for request in _requests(order, tokens, deadline, previews):
                handles.append(self._engine.submit(request))
            end = asyncio.gather(*(_drawing(handle) for handle in handles))
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
        yield Delivery(drawings, timings, _notes(order.subjects, tokens))

    def stats(self) -> Stats:
        """What the engine is doing."""
        return self._engine.stats()

    def close(self, timeout: float | None = None) -> bool:
        """Finish what was begun and take nothing more; False if that took longer than ``timeout`` seconds."""
        return self._engine.close(timeout)

    async def _preview(self, picture: int, seen: engine.Progress) -> Preview:
        small = await asyncio.wrap_future(self._engine.beside(self._pipeline.preview, seen.latents))
        return Preview(picture, seen.step, await asyncio.to_thread(to_png, small))

    async def _subject_tokens(self, prompt: str, subject: Subject) -> SubjectTokens:
        """The character's tokens, computed if the store has none of this pipeline's identity."""
        if not find_word(prompt, subject.word):
            raise WordError("the prompt must contain the character's target word as a whole word")
        identity = self._pipeline.token_identity
        tokens = await self._characters.tokens(subject.character, identity)
        if tokens is None:
            cut_outs = await self._characters.cut_outs(subject.character, self._pipeline.reference_size)
            tokens = await asyncio.wrap_future(self._engine.beside(self._encode, cut_outs))
            await self._characters.put_tokens(subject.character, identity, tokens)
        return tokens

    def _encode(self, cut_outs: Sequence[CutOut]) -> SubjectTokens:
        tokens = self._pipeline.encode_subject([cut_out.picture for cut_out in cut_outs])
        return SubjectTokens(tokens.cpu(), self._pipeline.face_group([cut_out.face for cut_out in cut_outs]))


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


def _requests(order: Order, tokens: Sequence[SubjectTokens], deadline: float | None, previews: int) -> list[Request]:
    subjects = tuple(
        PromptSubject(kept.tokens, s.word, s.strength, kept.face, s.face_strength, s.body_strength)
        for s, kept in zip(order.subjects, tokens, strict=True)
    )
    return [
        Request(
            prompt=order.prompt,
            seed=seed,
            width=order.width,
            height=order.height,
            steps=order.steps,
            guidance_scale=order.guidance_scale,
            negative_prompt=order.negative_prompt,
            subjects=subjects,
            mask_scope=order.mask_scope,
            owner=order.owner,
            deadline=deadline,
            preview_every=max(1, order.steps // (previews + 1)) if previews else 0,
        )
        for seed in order.seeds
    ]


async def _drawing(handle: Handle) -> Drawing:
    picture = await handle.picture()
    image, *masks = await asyncio.to_thread(lambda: [to_png(drawn) for drawn in (picture.image, *picture.masks)])
    return Drawing(image, tuple(masks), handle.seconds(Phase.ENCODING, Phase.DONE))


def _notes(subjects: Sequence[Subject], tokens: Sequence[SubjectTokens]) -> list[str]:
    """What was asked for and had no effect."""
    return [
        f"characters[{i}].face_strength: no face is known on this character's pictures, so it has no effect"
        for i, (subject, kept) in enumerate(zip(subjects, tokens, strict=True))
        if kept.face is None and subject.face_strength != 1
    ]
