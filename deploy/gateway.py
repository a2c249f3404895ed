"""The HTTP interface, and only that: requests become calls of the service's parts, results become JSON."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from starlette.datastructures import UploadFile

from components.config import Config
from deploy.envelope import ApiError, LimitBody, install_error_handlers
from deploy.job_routes import job_routes
from deploy.orders import image_response, read_order
from deploy.protocols import Characters, Generator, Jobs
from deploy.schema import (
    MAX_PICTURES,
    CharacterPage,
    CharacterRequest,
    CharacterResponse,
    DeletedResponse,
    ImageRequest,
    ImageResponse,
    ModelPage,
    ModelResponse,
)

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


def create_app(
    config: Config, model: ModelResponse, characters: Characters, generator: Generator, jobs: Jobs
) -> FastAPI:
    """The application over its parts.

    Args:
        config: the defaults (``sampling``) and limits (``serving``) of requests.
        model: what is served.
    """
    app = FastAPI(title="RealCustom Studio")
    app.add_middleware(LimitBody, max_bytes=config.serving.max_upload_bytes)
    install_error_handlers(app)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def list_models() -> ModelPage:
        return ModelPage(data=[model])

    @app.post("/v1/characters", status_code=201, openapi_extra=_CHARACTER_BODY)
    async def create_character(request: Request) -> CharacterResponse:
        wanted = await _read_character(request)
        created = await characters.create(
            wanted.name, wanted.description, wanted.target_word, wanted.pictures, wanted.faces
        )
        return CharacterResponse.of(created)

    @app.get("/v1/characters")
    async def list_characters(
        limit: Annotated[int, Query(ge=1, le=100)] = 20, after: Annotated[str | None, Query(max_length=64)] = None
    ) -> CharacterPage:
        found = await characters.page(limit + 1, after)
        return CharacterPage(data=[CharacterResponse.of(c) for c in found[:limit]], has_more=len(found) > limit)

    @app.get("/v1/characters/{identifier}")
    async def get_character(identifier: str) -> CharacterResponse:
        return CharacterResponse.of(await characters.get(identifier))

    @app.get("/v1/characters/{identifier}/reference.png", response_class=Response)
    async def get_reference(identifier: str) -> Response:
        return Response(await characters.reference(identifier), media_type="image/png")

    @app.delete("/v1/characters/{identifier}")
    async def delete_character(identifier: str) -> DeletedResponse:
        await characters.delete(identifier)
        return DeletedResponse(id=identifier)

    @app.post("/v1/images/generations", response_model_exclude_none=True)
    async def generate_images(request: ImageRequest) -> ImageResponse:
        started = time.perf_counter()
        order = await read_order(request, config, model.id, characters)
        delivery = await generator.generate(order)
        return image_response(order, delivery, model.id, request.return_masks, time.perf_counter() - started)

    app.include_router(job_routes(config, model.id, characters, jobs))
    return app


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
