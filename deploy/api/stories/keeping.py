"""Pictures that a client waits for are kept in the history, where it asks for that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Header

from components.history.generation import NewGeneration
from deploy.api.error_responses import ApiError
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult
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

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        await self._stories.refuse_more(request.owner)
        result = await self._generator.generate(request)
        await self._keep(request, result)
        return result

    async def stream(self, request: GenerationRequest, previews: int) -> AsyncGenerator[GenerationEvent, None]:
        await self._stories.refuse_more(request.owner)
        async with aclosing(self._generator.stream(request, previews)) as news:
            async for each in news:
                if isinstance(each, GenerationResult):
                    await self._keep(request, each)
                yield each

    async def _keep(self, request: GenerationRequest, result: GenerationResult) -> None:
        drawn = [
            NewGeneration(
                picture=image.image,
                width=request.width,
                height=request.height,
                seed=seed,
                model=self._model,
                model_version=result.model_version,
                settings=self._settings(request, result),
            )
            for image, seed in zip(result.images, request.seeds, strict=True)
        ]
        await self._stories.keep(drawn, request.owner)

    def _settings(self, request: GenerationRequest, result: GenerationResult) -> dict[str, Any]:
        characters = [
            {"id": subject.character, "name": "", "target_word": word, "strength": subject.strength}
            | {"face_strength": subject.face_strength, "body_strength": subject.body_strength}
            for subject, word in zip(request.subjects, result.words, strict=False)
            if subject.character
        ]
        return {
            "prompt": self._prompt,
            "revised_prompt": result.prompt or request.prompt,
            "characters": characters,
            "size": f"{request.width}x{request.height}",
            "negative_prompt": request.negative_prompt,
            "steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "scheduler": request.scheduler,
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
