"""``POST /v1/images/edits``: images with a subject whose reference images come with the request and are not stored."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from components.config import Config
from components.errors import DataError, WordError
from components.model.words import find_word
from deploy.api.error_responses import ApiError
from deploy.api.forms import read_fields
from deploy.api.images.execution import RESPONSES, RequestContext, execute
from deploy.api.images.request_conversion import build_request, check_model
from deploy.api.images.schema import MAX_REFERENCES, EditRequest, edit_form_schema
from deploy.api.quotas import CurrentCaller
from deploy.api.stories.history_recorder import Keep, record_history
from deploy.interfaces.protocols import Characters, Generator
from deploy.interfaces.requests import GenerationRequest, RequestedSubject
from deploy.interfaces.responses import ImageResponse
from deploy.interfaces.stories import Stories

#: `_read_form` reads the form, not FastAPI, which therefore cannot document it.
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": edit_form_schema()}}}}
_NO_WORD = "target_word: the prompt must contain it as a whole word, within what the model reads"


def edit_routes(
    config: Config, model: str, characters: Characters, generator: Generator, stories: Stories
) -> APIRouter:
    """The route of images with an uploaded subject."""
    router = APIRouter(prefix="/v1/images")

    @router.post(
        "/edits",
        response_model=ImageResponse,
        response_model_exclude_none=True,
        responses=RESPONSES,
        openapi_extra=_BODY,
    )
    async def edit_images(http: Request, caller: CurrentCaller, keep: Keep = None) -> Any:
        started = time.perf_counter()
        body = await _read_form(http)
        request = await _resolve_request(body, config, model, characters, caller.owner)
        source = record_history(generator, stories, keep, body.prompt, model)
        try:
            return await execute(RequestContext(body, request, caller, http, started), "image_edit", model, source)
        except WordError:
            raise ApiError(400, _NO_WORD, "target_word", "target_word_not_in_prompt") from None

    return router


async def _resolve_request(
    body: EditRequest, config: Config, model: str, characters: Characters, owner: str
) -> GenerationRequest:
    """The request with the subject of the uploaded images.

    Raises:
        ApiError: a field exceeds its limit, an image cannot be read, or the prompt does not contain the word.
    """
    check_model(body, model)
    word = body.target_word or ""
    if word and not find_word(body.prompt, word):
        raise ApiError(400, _NO_WORD, "target_word", "target_word_not_in_prompt")
    build_request(body, config, body.prompt, [])  # check the limits before the images are decoded
    try:
        uploaded = await characters.cut_out_uploads(body.image, "image")
    except DataError as error:
        raise ApiError(400, str(error), "image", "invalid_picture") from None
    subject = RequestedSubject("", word, body.strength, body.face_strength, body.body_strength, uploaded)
    return build_request(body, config, body.prompt, [subject], owner)


async def _read_form(http: Request) -> EditRequest:
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with the pictures as files", code="content_type")
    max_fields = len(EditRequest.model_fields)
    async with http.form(max_files=MAX_REFERENCES + 2, max_fields=max_fields) as form:
        fields = {"image": []} | await read_fields(form, ["image"])
        return EditRequest.model_validate(fields)
