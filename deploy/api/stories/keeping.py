"""Pictures that a client waits for are kept in the history, where it asks for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Header

from components.history.generation import NewGeneration
from components.jobs.job import JobProgress, Preview
from deploy.api.error_responses import ApiError
from deploy.interfaces.protocols import Delivery, Generator, Order
from deploy.interfaces.stories import Stories

#: ``history`` keeps the pictures of a request for their owner.
Keep = Annotated[str | None, Header(alias="X-Keep", pattern="^history$")]


class KeepingGenerator:
    """A generator whose pictures are kept.

    Args:
        prompt: as it was written.
        model: that answers.
    """

    def __init__(self, generator: Generator, stories: Stories, prompt: str, model: str) -> None:
        self._generator, self._stories = generator, stories
        self._prompt, self._model = prompt, model

    async def generate(self, order: Order) -> Delivery:
        await self._stories.refuse_more(order.owner)
        delivery = await self._generator.generate(order)
        await self._keep(order, delivery)
        return delivery

    async def draw(self, order: Order, previews: int) -> AsyncGenerator[JobProgress | Preview | Delivery, None]:
        await self._stories.refuse_more(order.owner)
        async with aclosing(self._generator.draw(order, previews)) as news:
            async for each in news:
                if isinstance(each, Delivery):
                    await self._keep(order, each)
                yield each

    async def _keep(self, order: Order, delivery: Delivery) -> None:
        drawn = [
            NewGeneration(
                picture=drawing.picture,
                width=order.width,
                height=order.height,
                seed=seed,
                model=self._model,
                model_version=delivery.model_version,
                settings=self._settings(order, delivery),
            )
            for drawing, seed in zip(delivery.drawings, order.seeds, strict=True)
        ]
        await self._stories.keep(drawn, order.owner)

    def _settings(self, order: Order, delivery: Delivery) -> dict[str, Any]:
        characters = [
            {"id": subject.character, "name": "", "target_word": word, "strength": subject.strength}
            | {"face_strength": subject.face_strength, "body_strength": subject.body_strength}
            for subject, word in zip(order.subjects, delivery.words, strict=False)
            if subject.character
        ]
        return {
            "prompt": self._prompt,
            "revised_prompt": delivery.prompt or order.prompt,
            "characters": characters,
            "size": f"{order.width}x{order.height}",
            "negative_prompt": order.negative_prompt,
            "steps": order.steps,
            "guidance_scale": order.guidance_scale,
            "scheduler": order.scheduler,
        }


def keeping(generator: Generator, stories: Stories | None, keep: str | None, prompt: str, model: str) -> Generator:
    """The generator, with its pictures kept where a request asks for that.

    Raises:
        ApiError: it asks for that, and nothing keeps pictures here.
    """
    if keep is None:
        return generator
    if stories is None:
        raise ApiError(400, "X-Keep: this service keeps no history", "X-Keep", "no_history")
    return KeepingGenerator(generator, stories, prompt, model)
