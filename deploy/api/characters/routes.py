"""The routes of characters."""

from __future__ import annotations

import copy
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from components.characters.character import MAX_PICTURES
from components.characters.target_word import told_word
from components.config import Config
from deploy.api.cached_pictures import ThumbnailSize, cached
from deploy.api.characters.schema import (
    CandidatesRequest,
    CandidatesResponse,
    CharacterChange,
    CharacterPage,
    CharacterRequest,
    CharacterResponse,
    DeletedResponse,
    PicturesRequest,
)
from deploy.api.error_responses import ApiError
from deploy.api.images.requests import read_order, to_base64
from deploy.api.images.schema import ImageRequest
from deploy.api.quotas import Caller, caller
from deploy.interfaces.protocols import Characters, Generator

_By = Annotated[Caller, Depends(caller)]
Body = TypeVar("Body", bound=BaseModel)


def _described(body: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI of a body that is read by hand: JSON, or a form with files."""
    as_json = body.model_json_schema()
    form = copy.deepcopy(as_json)
    form["properties"]["faces"] = {"type": "string", "description": "As JSON."}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": as_json}}
    return {"requestBody": {"required": True, "content": content}}


def character_routes(config: Config, model: str, characters: Characters, generator: Generator) -> APIRouter:
    """``/v1/characters`` over the part that keeps them, and the one that draws candidates."""
    router = APIRouter(prefix="/v1/characters")

    @router.post("", status_code=201, openapi_extra=_described(CharacterRequest))
    async def create_character(request: Request, by: _By) -> CharacterResponse:
        wanted = await _read(request, CharacterRequest)
        pictures, description = wanted.pictures, wanted.description
        if wanted.candidates:
            chosen = await characters.candidate(wanted.candidates, wanted.choice, by.owner)
            pictures, description = [chosen.picture], description or chosen.prompt
        if told_word(wanted.target_word, description) is None and not config.serving.find_words:
            missing = "target_word: give the word that stands for the character, or a description that has it"
            raise ApiError(400, missing, "target_word", "missing")
        created = await characters.create(
            wanted.name, description, wanted.target_word, pictures, wanted.faces, by.owner
        )
        return CharacterResponse.of(created)

    @router.post("/candidates", status_code=201)
    async def draw_candidates(request: CandidatesRequest, by: _By) -> CandidatesResponse:
        order = await read_order(ImageRequest(**request.model_dump()), config, model, characters, by.owner)
        async with await by.charge(order):
            delivery = await generator.generate(order)
        pictures = [drawing.picture for drawing in delivery.drawings]
        offered = await characters.offer(request.prompt, pictures, by.owner)
        drawn = list(zip(map(to_base64, pictures), order.seeds, strict=True))
        return CandidatesResponse.of(offered, request.prompt, drawn)

    @router.get("")
    async def list_characters(
        by: _By,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=64)] = None,
    ) -> CharacterPage:
        found = await characters.page(limit + 1, after, by.owner)
        return CharacterPage(data=[CharacterResponse.of(c) for c in found[:limit]], has_more=len(found) > limit)

    @router.get("/{identifier}")
    async def get_character(identifier: str, by: _By) -> CharacterResponse:
        return CharacterResponse.of(await characters.get(identifier, by.owner))

    @router.patch("/{identifier}")
    async def change_character(identifier: str, change: CharacterChange, by: _By) -> CharacterResponse:
        changed = await characters.describe(identifier, change.name, change.description, change.target_word, by.owner)
        return CharacterResponse.of(changed)

    @router.delete("/{identifier}")
    async def delete_character(identifier: str, by: _By) -> DeletedResponse:
        await characters.delete(identifier, by.owner)
        return DeletedResponse(id=identifier)

    _add_picture_routes(router, characters)
    return router


def _add_picture_routes(router: APIRouter, characters: Characters) -> None:
    """What concerns the pictures of one character."""

    @router.get("/{identifier}/reference.png", response_class=Response)
    async def get_reference(identifier: str, by: _By) -> Response:
        return _png(await characters.cut_out(identifier, None, by.owner))

    @router.get("/{identifier}/thumbnail.webp", response_class=Response)
    async def get_thumbnail(
        identifier: str, request: Request, by: _By, size: ThumbnailSize = ThumbnailSize.MEDIUM
    ) -> Response:
        picture, small = await characters.thumbnail(identifier, int(size), by.owner)
        return cached(request, f"{picture}-{int(size)}", small, "image/webp", lasting=False)

    @router.post("/{identifier}/pictures", status_code=201, openapi_extra=_described(PicturesRequest))
    async def add_pictures(identifier: str, request: Request, by: _By) -> CharacterResponse:
        wanted = await _read(request, PicturesRequest)
        return CharacterResponse.of(await characters.add_pictures(identifier, wanted.pictures, wanted.faces, by.owner))

    @router.delete("/{identifier}/pictures/{picture}")
    async def remove_picture(identifier: str, picture: str, by: _By) -> CharacterResponse:
        return CharacterResponse.of(await characters.remove_picture(identifier, picture, by.owner))

    @router.get("/{identifier}/pictures/{picture}/cutout.png", response_class=Response)
    async def get_cutout(identifier: str, picture: str, by: _By) -> Response:
        return _png(await characters.cut_out(identifier, picture, by.owner))


async def _read(request: Request, body: type[Body]) -> Body:
    """The request from a form with files or from JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return body.model_validate_json(await request.body())
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with files, or application/json", code="content_type")
    async with request.form(max_files=MAX_PICTURES, max_fields=len(body.model_fields)) as form:
        fields: dict[str, object] = {key: value for key, value in form.items() if key != "pictures"}
        if "pictures" in form:
            fields["pictures"] = [await f.read() if isinstance(f, UploadFile) else f for f in form.getlist("pictures")]
        return body.model_validate(fields)


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png")
