"""``/v1/characters``."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from components.access.stored_answers import AnswerStore
from components.characters.character import MAX_PICTURES, Character
from components.characters.target_word import stated_word
from components.config import Config
from components.logs import amend
from components.pictures import ThumbnailSize
from deploy.api.cached_pictures import send_cached
from deploy.api.characters.character_encoding import CharacterEncoding
from deploy.api.characters.schema import (
    CandidatesRequest,
    CandidatesResponse,
    CharacterChange,
    CharacterPage,
    CharacterRequest,
    CharacterResponse,
    DeletedResponse,
    PictureChange,
    PicturesRequest,
)
from deploy.api.error_responses import ApiError
from deploy.api.forms import read_fields
from deploy.api.images.request_conversion import resolve_request
from deploy.api.images.schema import ImageRequest, stated_regions
from deploy.api.large_responses import json_response
from deploy.api.quotas import CurrentCaller
from deploy.api.repeated_requests import IdempotencyHeader, RepeatedRequest, repeatable
from deploy.api.stories.history_recorder import Keep, record_history
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.protocols import Characters, Generator
from deploy.interfaces.requests import StatedRegion
from deploy.interfaces.responses import to_base64
from deploy.interfaces.stories import Stories

Body = TypeVar("Body", bound=BaseModel)
#: Reads a PNG of an owner's character, of the image with this id: character, image, owner.
PngReader = Callable[[str, str, str], Awaitable[bytes]]


def _request_body(body: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI of a body that `_read` reads: JSON, or a form with files."""
    as_json = body.model_json_schema()
    form = copy.deepcopy(as_json)
    nested = form["properties"].keys() & {"faces", "boxes", "box"}
    form["properties"] |= {key: {"type": "string", "description": "As JSON."} for key in sorted(nested)}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": as_json}}
    return {"requestBody": {"required": True, "content": content}}


def character_routes(
    config: Config,
    model: str,
    characters: Characters,
    generator: Generator,
    stories: Stories,
    time_limits: TimeLimits,
    answers: AnswerStore,
) -> APIRouter:
    """The routes of characters; ``generator`` generates candidates, and ``stories`` keeps them in the history."""
    router = APIRouter(prefix="/v1/characters")
    encoding = CharacterEncoding(generator)

    @router.post("", status_code=201, openapi_extra=_request_body(CharacterRequest))
    async def create_character(request: Request, caller: CurrentCaller) -> CharacterResponse:
        body = await _read(request, CharacterRequest)
        pictures, description = body.pictures, body.description
        if body.candidates:
            candidate = await characters.get_candidate(body.candidates, body.choice, caller.owner)
            pictures, description = [candidate.picture], description or candidate.prompt
        if stated_word(body.target_word, description) is None and not config.serving.find_words:
            missing = "target_word: give the word that stands for the character, or a description that has it"
            raise ApiError(400, missing, "target_word", "missing")
        regions = stated_regions(body.boxes, body.masks)
        created = await characters.create(
            body.name, description, body.target_word, pictures, body.faces, caller.owner, regions
        )
        amend(resource=created.id)
        return _encoded(encoding, created)

    @router.post("/candidates", status_code=201, response_model=CandidatesResponse)
    async def draw_candidates(
        body: CandidatesRequest,
        caller: CurrentCaller,
        keep: Keep = None,
        idempotency_key: IdempotencyHeader = None,
    ) -> Response:
        order = ImageRequest(**body.model_dump())
        order, identity = await repeatable("candidates", order, idempotency_key, caller.owner)
        repeat = RepeatedRequest(answers, caller.owner, identity)
        if (known := await repeat.answer()) is not None:
            return known
        request = await resolve_request(order, config, model, characters, caller.owner)
        await time_limits.check(request)
        source = record_history(generator, stories, keep, body.prompt, model)
        async with await caller.charge(request, identity) as charge:
            result = await source.generate(request)
            images = [generated.image for generated in result.images]
            saved = await characters.save_candidates(body.prompt, images, caller.owner)

            def answer() -> CandidatesResponse:
                shown = list(zip(map(to_base64, images), request.seeds, strict=True))
                return CandidatesResponse.of(saved, body.prompt, shown)

            response = await json_response(answer, status=201)
            charge.keep()
            await repeat.store(bytes(response.body), "application/json", 201)
            return response

    @router.get("")
    async def list_characters(
        caller: CurrentCaller,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=64)] = None,
    ) -> CharacterPage:
        found = await characters.page(limit + 1, after, caller.owner)
        return CharacterPage(data=[CharacterResponse.of(c) for c in found[:limit]], has_more=len(found) > limit)

    @router.get("/{identifier}")
    async def get_character(identifier: str, caller: CurrentCaller) -> CharacterResponse:
        return CharacterResponse.of(await characters.get(identifier, caller.owner))

    @router.patch("/{identifier}")
    async def change_character(identifier: str, change: CharacterChange, caller: CurrentCaller) -> CharacterResponse:
        changed = await characters.update(identifier, change.name, change.description, change.target_word, caller.owner)
        return CharacterResponse.of(changed)

    @router.delete("/{identifier}")
    async def delete_character(identifier: str, caller: CurrentCaller) -> DeletedResponse:
        await characters.delete(identifier, caller.owner)
        return DeletedResponse(id=identifier)

    _add_picture_routes(router, characters, encoding)
    return router


def _add_picture_routes(router: APIRouter, characters: Characters, encoding: CharacterEncoding) -> None:
    """The routes of one character's images."""

    async def send(
        http: Request, caller: CurrentCaller, identifier: str, picture: str | None, kind: str, read: PngReader
    ) -> Response:
        """A PNG of one image, by default of the first."""
        found = (await characters.get(identifier, caller.owner)).picture(picture).id
        read_it = partial(read, identifier, found, caller.owner)
        return await send_cached(http, f"{found}-{kind}", "image/png", read_it, immutable=picture is not None)

    @router.get("/{identifier}/reference.png", response_class=Response)
    async def get_reference(identifier: str, http: Request, caller: CurrentCaller) -> Response:
        return await send(http, caller, identifier, None, "cutout", characters.cut_out)

    @router.get("/{identifier}/thumbnail.webp", response_class=Response)
    async def get_thumbnail(
        identifier: str, http: Request, caller: CurrentCaller, size: ThumbnailSize = ThumbnailSize.MEDIUM
    ) -> Response:
        first = (await characters.get(identifier, caller.owner)).picture(None).id
        read = partial(characters.thumbnail, identifier, first, int(size), caller.owner)
        return await send_cached(http, f"{first}-{int(size)}", "image/webp", read, immutable=False)

    @router.post("/{identifier}/pictures", status_code=201, openapi_extra=_request_body(PicturesRequest))
    async def add_pictures(identifier: str, request: Request, caller: CurrentCaller) -> CharacterResponse:
        body = await _read(request, PicturesRequest)
        regions = stated_regions(body.boxes, body.masks)
        changed = await characters.add_pictures(identifier, body.pictures, body.faces, caller.owner, regions)
        return _encoded(encoding, changed)

    @router.delete("/{identifier}/pictures/{picture}")
    async def remove_picture(identifier: str, picture: str, caller: CurrentCaller) -> CharacterResponse:
        return _encoded(encoding, await characters.remove_picture(identifier, picture, caller.owner))

    @router.patch("/{identifier}/pictures/{picture}", openapi_extra=_request_body(PictureChange))
    async def change_picture(
        identifier: str, picture: str, request: Request, caller: CurrentCaller
    ) -> CharacterResponse:
        """Cut an image out again, where a box or a mask says that its subject is; it gets another id."""
        body = await _read(request, PictureChange)
        region = StatedRegion(body.box, body.mask)
        return _encoded(encoding, await characters.change_region(identifier, picture, region, caller.owner))

    @router.get("/{identifier}/pictures/{picture}/original.png", response_class=Response)
    async def get_original(identifier: str, picture: str, http: Request, caller: CurrentCaller) -> Response:
        return await send(http, caller, identifier, picture, "original", characters.original)

    @router.get("/{identifier}/pictures/{picture}/mask.png", response_class=Response)
    async def get_mask(identifier: str, picture: str, http: Request, caller: CurrentCaller) -> Response:
        return await send(http, caller, identifier, picture, "mask", characters.mask)

    @router.get("/{identifier}/pictures/{picture}/cutout.png", response_class=Response)
    async def get_cutout(identifier: str, picture: str, http: Request, caller: CurrentCaller) -> Response:
        return await send(http, caller, identifier, picture, "cutout", characters.cut_out)


def _encoded(encoding: CharacterEncoding, character: Character) -> CharacterResponse:
    """The response to new or changed images, whose encoding begins."""
    encoding.begin(character)
    return CharacterResponse.of(character)


async def _read(request: Request, body: type[Body]) -> Body:
    """Read JSON, or a form with files."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await asyncio.to_thread(body.model_validate_json, await request.body())
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with files, or application/json", code="content_type")
    max_fields = len(body.model_fields) + 2 * MAX_PICTURES
    async with request.form(max_files=2 * MAX_PICTURES, max_fields=max_fields) as form:
        fields = await read_fields(form, ["pictures"], ["boxes", "masks"])
        return await asyncio.to_thread(body.model_validate, fields)
