"""``POST /v1/images/edits``: images with a subject whose reference images come with the request and are not stored.

With a mask, or a strength of redrawing, the first image is redrawn (`deploy.api.images.redraw_request`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from components.access.stored_answers import AnswerStore
from components.config import Config
from components.errors import WordError
from components.model.prompt_weights import holds_word
from deploy.api.error_responses import ApiError
from deploy.api.forms import read_fields
from deploy.api.images.control_request import with_control
from deploy.api.images.execution import RESPONSES, RequestContext, execute
from deploy.api.images.redraw_request import redraw_request, uploaded_subject
from deploy.api.images.request_conversion import build_request, check_model, resolve_subjects
from deploy.api.images.schema import MAX_REFERENCES, EditRequest, edit_form_schema, stated_regions
from deploy.api.quotas import CurrentCaller
from deploy.api.repeated_requests import IdempotencyHeader, RepeatedRequest, repeatable
from deploy.api.stories.history_recorder import Keep, record_history
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.protocols import Characters, Generator
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.responses import ImageResponse
from deploy.interfaces.stories import Stories

#: `_read_form` reads the form, not FastAPI, which therefore cannot document it.
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": edit_form_schema()}}}}
_NO_WORD = "target_word: the prompt must contain it as a whole word, within what the model reads"


def edit_routes(
    config: Config,
    model: str,
    characters: Characters,
    generator: Generator,
    stories: Stories,
    time_limits: TimeLimits,
    answers: AnswerStore,
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
    async def edit_images(
        http: Request, caller: CurrentCaller, keep: Keep = None, idempotency_key: IdempotencyHeader = None
    ) -> Any:
        started = time.perf_counter()
        body, identity = await repeatable("edits", await _read_form(http), idempotency_key, caller.owner)
        repeat = RepeatedRequest(answers, caller.owner, identity)
        if (known := await repeat.answer()) is not None:
            return known
        source = record_history(generator, stories, keep, body.prompt, model)
        if body.redraws:
            request = await redraw_request(body, config, model, characters, caller.owner, time_limits)
            async with await caller.charge(request, identity) as charge:
                request = await with_control(request, body.control, characters)
                context = RequestContext(body, request, charge, repeat, http, started)
                return await execute(context, "image_edit", model, source)
        request = await _check_request(body, config, model, characters, caller.owner)
        await time_limits.check(request)
        try:
            async with await caller.charge(request, identity) as charge:
                regions = stated_regions(body.boxes, body.masks)
                subject = await uploaded_subject(body, body.image, regions, characters, caller.owner)
                request = replace(request, subjects=(subject,))
                request = await with_control(request, body.control, characters)
                context = RequestContext(body, request, charge, repeat, http, started)
                return await execute(context, "image_edit", model, source)
        except WordError:
            raise ApiError(400, _NO_WORD, "target_word", "target_word_not_in_prompt") from None

    return router


async def _check_request(
    body: EditRequest, config: Config, model: str, characters: Characters, owner: str
) -> GenerationRequest:
    """The request without its subject.

    Raises:
        ApiError: a field exceeds its limit, the prompt does not contain the word, or it has characters.
    """
    check_model(body, model)
    remedy = "only an image that is redrawn has characters: send mask or redraw_strength, or use generations"
    if body.characters:
        raise ApiError(400, f"characters: {remedy}", "characters", "invalid_order")
    _, mentioned = await resolve_subjects(body, characters, owner)
    if mentioned:
        raise ApiError(400, f"prompt: {remedy}", "prompt", "invalid_order")
    word = body.target_word or ""
    if word and not holds_word(body.prompt, word):
        raise ApiError(400, _NO_WORD, "target_word", "target_word_not_in_prompt")
    return build_request(body, config, body.prompt, [], owner)


async def _read_form(http: Request) -> EditRequest:
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with the pictures as files", code="content_type")
    max_fields = len(EditRequest.model_fields) + 2 * MAX_REFERENCES
    async with http.form(max_files=2 * MAX_REFERENCES + 3, max_fields=max_fields) as form:
        fields = {"image": []} | await read_fields(form, ["image"], ["boxes", "masks"])
        return EditRequest.model_validate(fields)
