"""The HTTP interface, and only that: requests become calls of `Characters` and `Generator`, results become JSON."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from starlette.datastructures import UploadFile

from components.config import Config
from components.errors import NotFoundError
from deploy.envelope import ApiError, LimitBody, install_error_handlers
from deploy.protocols import Characters, Drawing, Generator, Order, Subject
from deploy.schema import (
    MAX_PICTURES,
    CharacterChoice,
    CharacterPage,
    CharacterRequest,
    CharacterResponse,
    DeletedResponse,
    ImageData,
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


def create_app(config: Config, model: ModelResponse, characters: Characters, generator: Generator) -> FastAPI:
    """The application over its two parts.

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
        if request.model not in (None, model.id):
            raise ApiError(404, "model: this model is not served; see /v1/models", "model", "model_not_found")
        subjects = [await _subject(choice, i, characters) for i, choice in enumerate(request.characters)]
        order = _order(request, config, subjects)
        delivery = await generator.generate(order)
        return ImageResponse(
            created=int(time.time()),
            data=[_image(drawing, request.return_masks) for drawing in delivery.drawings],
            model=model.id,
            seed=order.seeds[0],
            target_words=[subject.word for subject in subjects],
            timings=delivery.timings | {"total_s": time.perf_counter() - started},
            notes=delivery.notes,
        )

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


async def _subject(chosen: CharacterChoice, index: int, characters: Characters) -> Subject:
    try:
        character = await characters.get(chosen.id)
    except NotFoundError as error:
        raise ApiError(404, str(error), f"characters[{index}].id", "character_not_found") from None
    word = chosen.target_word or character.target_word
    return Subject(character.id, word, chosen.strength, chosen.face_strength, chosen.body_strength)


def _order(request: ImageRequest, config: Config, subjects: list[Subject]) -> Order:
    """Fill the request's gaps from the configuration and hold it to the limits."""
    steps = request.steps or config.sampling.steps
    if steps > config.serving.max_steps:
        raise ApiError(400, f"steps: at most {config.serving.max_steps}", "steps", "too_large")
    width, height = config.sampling.width, config.sampling.height
    if request.size != "auto":
        width, height = (int(side) for side in request.size.split("x"))
    if width % 8 or height % 8 or max(width, height) > config.serving.max_side:
        limit = f"size: both sides must be multiples of 8, at most {config.serving.max_side}"
        raise ApiError(400, limit, "size", "invalid_size")
    seed = secrets.randbits(32) if request.seed is None else request.seed
    return Order(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=request.guidance_scale or config.sampling.guidance_scale,
        seeds=tuple(range(seed, seed + request.n)),
        subjects=tuple(subjects),
        mask_scope=request.mask_scope,
    )


def _image(drawing: Drawing, with_mask: bool) -> ImageData:
    masks = [_base64(mask) for mask in drawing.masks] if with_mask else None
    return ImageData(b64_json=_base64(drawing.picture), masks_b64_json=masks)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
