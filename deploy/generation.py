"""The generator part: orders in, pictures out. Knows nothing of HTTP or Serve.

An order of n pictures becomes n shots, one a seed. Shots that agree in everything a pipeline call can have only one of
are drawn together, whichever orders they come from; a shot's picture does not depend on its company.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from components.characters.store import SubjectTokens
from components.errors import RealCustomError, WordError
from components.model.subjects import Subject as PromptSubject
from components.model.words import find_word
from components.pictures import CutOut
from deploy.characters import to_png
from deploy.protocols import Delivery, Drawing, Order, Subject, SubjectSource


class Pipeline(Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that is used here."""

    @property
    def token_identity(self) -> str: ...

    @property
    def reference_size(self) -> int: ...

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor: ...

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None: ...

    def __call__(self, prompt: list[str], **arguments: Any) -> Any: ...


@dataclass(frozen=True)
class Shot:
    """One picture of an order; ``tokens`` are those of each of its subjects."""

    order: Order
    seed: int
    tokens: tuple[SubjectTokens, ...]

    @property
    def batch_key(self) -> Hashable:
        """Shots with the same key can share a pipeline call."""
        order = self.order
        return order.width, order.height, order.steps, order.guidance_scale, order.mask_scope, not self.tokens


class GenerationService:
    """`Generator` over one pipeline, which one thread works on at a time."""

    def __init__(self, pipeline: Pipeline, characters: SubjectSource) -> None:
        self._pipeline, self._characters = pipeline, characters
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pipeline")

    async def generate(self, order: Order) -> Delivery:
        """Draw an order's pictures.

        Raises:
            WordError: the prompt does not hold the subject's word.
            NotFoundError: the character is gone.
        """
        started = time.perf_counter()
        tokens = tuple([await self._subject_tokens(order.prompt, subject) for subject in order.subjects])
        encoded = time.perf_counter()
        results = await asyncio.gather(*(self.draw(Shot(order, seed, tokens)) for seed in order.seeds))
        drawings = [_or_raise(result) for result in results]
        draw_s = max(drawing.seconds for drawing in drawings)
        wait_s = time.perf_counter() - encoded - draw_s
        timings = {"subject_s": encoded - started, "wait_s": wait_s, "draw_s": draw_s}
        return Delivery(drawings, timings, _notes(order.subjects, tokens))

    async def draw(self, shot: Shot) -> Drawing | RealCustomError:
        """Draw one shot. A deployment replaces this by one that collects shots for `draw_together`."""
        return (await self.draw_together([shot]))[0]

    async def draw_together(self, shots: Sequence[Shot]) -> list[Drawing | RealCustomError]:
        """Draw shots in as few pipeline calls as possible; a shot that cannot be drawn spoils no other."""
        groups: dict[Hashable, list[int]] = {}
        for index, shot in enumerate(shots):
            groups.setdefault(shot.batch_key, []).append(index)
        results: dict[int, Drawing | RealCustomError] = {}
        for indices in groups.values():
            drawn = await self._on_device(self._draw_group, [shots[i] for i in indices])
            results.update(zip(indices, drawn, strict=True))
        return [results[i] for i in range(len(shots))]

    async def _subject_tokens(self, prompt: str, subject: Subject) -> SubjectTokens:
        """The character's tokens, computed if the store has none of this pipeline's identity."""
        if not find_word(prompt, subject.word):
            raise WordError("the prompt must contain the character's target word as a whole word")
        identity = self._pipeline.token_identity
        tokens = await self._characters.tokens(subject.character, identity)
        if tokens is None:
            cut_outs = await self._characters.cut_outs(subject.character, self._pipeline.reference_size)
            tokens = await self._on_device(self._encode, cut_outs)
            await self._characters.put_tokens(subject.character, identity, tokens)
        return tokens

    def _encode(self, cut_outs: Sequence[CutOut]) -> SubjectTokens:
        tokens = self._pipeline.encode_subject([cut_out.picture for cut_out in cut_outs])
        return SubjectTokens(tokens.cpu(), self._pipeline.face_group([cut_out.face for cut_out in cut_outs]))

    async def _on_device(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._device, function, *arguments)

    def _draw_group(self, shots: list[Shot]) -> list[Drawing | RealCustomError]:
        try:
            return list(self._call_pipeline(shots))
        except RealCustomError as error:
            if len(shots) == 1:
                return [error]
            return [result for shot in shots for result in self._draw_group([shot])]

    def _call_pipeline(self, shots: list[Shot]) -> list[Drawing]:
        first = shots[0].order
        subjects = [_subjects(shot) for shot in shots] if shots[0].tokens else None
        started = time.perf_counter()
        output = self._pipeline(
            [shot.order.prompt for shot in shots],
            negative_prompt=[shot.order.negative_prompt for shot in shots],
            num_inference_steps=first.steps,
            guidance_scale=first.guidance_scale,
            height=first.height,
            width=first.width,
            generator=[torch.Generator().manual_seed(shot.seed) for shot in shots],
            subjects=subjects,
            mask_scope=first.mask_scope,
        )
        seconds = time.perf_counter() - started
        masks = output.masks or [[]] * len(shots)
        return [
            Drawing(to_png(picture), tuple(to_png(mask) for mask in own), seconds)
            for picture, own in zip(output.images, masks, strict=True)
        ]


def _subjects(shot: Shot) -> list[PromptSubject]:
    return [
        PromptSubject(kept.tokens, s.word, s.strength, kept.face, s.face_strength, s.body_strength)
        for s, kept in zip(shot.order.subjects, shot.tokens, strict=True)
    ]


def _notes(subjects: Sequence[Subject], tokens: Sequence[SubjectTokens]) -> list[str]:
    """What was asked for and had no effect."""
    return [
        f"characters[{i}].face_strength: no face is known on this character's pictures, so it has no effect"
        for i, (subject, kept) in enumerate(zip(subjects, tokens, strict=True))
        if kept.face is None and subject.face_strength != 1
    ]


def _or_raise(result: Drawing | RealCustomError) -> Drawing:
    if isinstance(result, RealCustomError):
        raise result
    return result
