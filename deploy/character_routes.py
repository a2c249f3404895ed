"""The routes of characters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import UploadFile

from deploy.access import Caller, caller
from deploy.character_schema import (
    MAX_PICTURES,
    CharacterPage,
    CharacterRequest,
    CharacterResponse,
    DeletedResponse,
)
from deploy.envelope import ApiError
from deploy.protocols import Characters

_By = Annotated[Caller, Depends(caller)]
#: Name, description, target word and faces.
_CHARACTER_FIELDS = 4
#: The character request is read by hand, so its two forms are described by hand.
_CHARACTER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "pictures"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "target_word": {"type": "string"},
                        "pictures": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "faces": {"type": "string"},
                    },
                }
            },
            "application/json": {"schema": CharacterRequest.model_json_schema()},
        },
    }
}


def character_routes(characters: Characters) -> APIRouter:
    """``/v1/characters`` over the part that keeps them."""
    router = APIRouter(prefix="/v1/characters")

    @router.post("", status_code=201, openapi_extra=_CHARACTER_BODY)
    async def create_character(request: Request, by: _By) -> CharacterResponse:
        wanted = await _read_character(request)
        created = await characters.create(
            wanted.name, wanted.description, wanted.target_word, wanted.pictures, wanted.faces, by.owner
        )
        return CharacterResponse.of(created)

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

    @router.get("/{identifier}/reference.png", response_class=Response)
    async def get_reference(identifier: str, by: _By) -> Response:
        return Response(await characters.reference(identifier, by.owner), media_type="image/png")

    @router.delete("/{identifier}")
    async def delete_character(identifier: str, by: _By) -> DeletedResponse:
        await characters.delete(identifier, by.owner)
        return DeletedResponse(id=identifier)

    return router


async def _read_character(request: Request) -> CharacterRequest:
    """The request from a form with files or from JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return CharacterRequest.model_validate_json(await request.body())
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with files, or application/json", code="content_type")
    async with request.form(max_files=MAX_PICTURES, max_fields=_CHARACTER_FIELDS) as form:
        fields: dict[str, object] = {key: value for key, value in form.items() if key != "pictures"}
        fields["pictures"] = [await f.read() if isinstance(f, UploadFile) else f for f in form.getlist("pictures")]
        return CharacterRequest.model_validate(fields)
