"""Saves the images of synchronous requests in the history, if the request has the header ``X-Keep: history``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Header

from components.history.generation import NewGeneration
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult
from deploy.interfaces.stories import Stories

#: ``history`` saves the images of a request in the caller's history.
Keep = Annotated[str | None, Header(alias="X-Keep", pattern="^history$")]


class HistoryRecorder:
    """A generator that saves its images in the history.

    Args:
        prompt: as sent by the client.
        model: name of the served model.
    """

    def __init__(self, generator: Generator, stories: Stories, prompt: str, model: str) -> None:
        self._generator, self._stories = generator, stories
        self._prompt, self._model = prompt, model

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        await self._stories.check_quota(request.owner)
        result = await self._generator.generate(request)
        await self._save(request, result)
        return result

    async def encode_character(self, character: str, revision: int, owner: str = "") -> None:
        await self._generator.encode_character(character, revision, owner)

    async def stream(self, request: GenerationRequest, previews: int) -> AsyncGenerator[GenerationEvent, None]:
        await self._stories.check_quota(request.owner)
        async with aclosing(self._generator.stream(request, previews)) as events:
            async for event in events:
                if isinstance(event, GenerationResult):
                    await self._save(request, event)
                yield event

    async def _save(self, request: GenerationRequest, result: GenerationResult) -> None:
        images = [
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
        await self._stories.save_generations(images, request.owner)

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
            **model_settings(request),
        }


def model_settings(request: GenerationRequest) -> dict[str, Any]:
    """``loras`` and ``control`` of the settings that are stored with an image; nothing without any."""
    settings: dict[str, Any] = {}
    if request.loras:
        settings["loras"] = [{"name": name, "weight": weight} for name, weight in request.loras]
    if (control := request.control) is not None:
        settings["control"] = {name: getattr(control, name) for name in ("name", "scale", "start", "end")}
    return settings


def record_history(generator: Generator, stories: Stories, keep: str | None, prompt: str, model: str) -> Generator:
    """The generator to use for a request: a `HistoryRecorder` if the request has the header ``X-Keep``."""
    if keep is None:
        return generator
    return HistoryRecorder(generator, stories, prompt, model)
