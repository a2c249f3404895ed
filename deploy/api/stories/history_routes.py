"""The routes of the history: an owner's generated images."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from components.history.generation import Generation
from components.pictures import ThumbnailSize
from deploy.api.cached_pictures import send_cached
from deploy.api.quotas import CurrentCaller
from deploy.api.stories.schema import TakeSettings
from deploy.interfaces.stories import Stories

_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}}}
_WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}}}
#: First bytes of a file -> media type.
_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp"}


class GenerationResponse(BaseModel):
    """A generated image; ``story`` and ``panel`` are set if it is a take."""

    id: str
    object: Literal["generation"] = "generation"
    created: int
    #: Paths.
    picture: str
    thumbnail: str
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    settings: TakeSettings
    story: str | None
    panel: str | None
    #: Ids of the characters that it was conditioned on.
    character: list[str]

    @classmethod
    def of(cls, generation: Generation) -> GenerationResponse:
        path = f"/v1/history/{generation.id}"
        settings = TakeSettings(**generation.settings)
        same = ("id", "width", "height", "seed", "model", "model_version", "story", "panel")
        return cls(
            **{name: getattr(generation, name) for name in same},
            created=int(generation.created),
            picture=f"{path}.png",
            thumbnail=f"{path}/thumbnail.webp?size=256",
            settings=settings,
            character=[each.id for each in settings.characters],
        )


class HistoryPage(BaseModel):
    """Newest first. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[GenerationResponse]
    has_more: bool


class DeletedGenerationResponse(BaseModel):
    id: str
    object: Literal["generation.deleted"] = "generation.deleted"
    deleted: Literal[True] = True


def history_routes(stories: Stories) -> APIRouter:
    """The routes under ``/v1/history``."""
    router = APIRouter(prefix="/v1/history")

    @router.get("")
    async def list_history(
        caller: CurrentCaller,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(pattern=r"^(gen-[0-9a-f]{28}|take-[0-9a-f]{30})$")] = None,
        character: Annotated[str | None, Query(pattern=r"^char-[0-9a-f]{28}$")] = None,
        story: Annotated[str | None, Query(pattern=r"^story-[0-9a-f]{28}$")] = None,
    ) -> HistoryPage:
        found = await stories.history(limit + 1, after, caller.owner, character, story)
        data = [GenerationResponse.of(generation) for generation in found[:limit]]
        return HistoryPage(data=data, has_more=len(found) > limit)

    @router.get("/{generation}.png", response_class=Response, responses=_PICTURE)
    async def get_generation(generation: str, request: Request, caller: CurrentCaller) -> Response:
        """The image in the format that was requested, by default PNG."""
        read = partial(stories.generation_picture, generation, caller.owner)
        check = partial(stories.check_generation, generation, caller.owner)
        return await send_cached(request, generation, _kind, read, check)

    @router.get("/{generation}/thumbnail.webp", response_class=Response, responses=_WEBP)
    async def get_thumbnail(
        generation: str, request: Request, caller: CurrentCaller, size: ThumbnailSize = ThumbnailSize.MEDIUM
    ) -> Response:
        read = partial(stories.generation_thumbnail, generation, int(size), caller.owner)
        check = partial(stories.check_generation, generation, caller.owner)
        return await send_cached(request, f"{generation}-{int(size)}", "image/webp", read, check)

    @router.delete("/{generation}")
    async def delete_generation(generation: str, caller: CurrentCaller) -> DeletedGenerationResponse:
        """Delete an image and its files; a take is deleted from its story, too."""
        await stories.delete_generation(generation, caller.owner)
        return DeletedGenerationResponse(id=generation)

    return router


def _kind(data: bytes) -> str:
    """The media type of an image file."""
    return next((kind for start, kind in _KINDS.items() if data.startswith(start)), "application/octet-stream")
