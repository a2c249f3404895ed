"""``POST /v1/images/generations``."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from components.access.stored_answers import AnswerStore
from components.config import Config
from deploy.api.images.control_request import with_control
from deploy.api.images.execution import RESPONSES, RequestContext, execute
from deploy.api.images.request_conversion import resolve_request
from deploy.api.images.schema import ImageRequest
from deploy.api.quotas import CurrentCaller
from deploy.api.repeated_requests import IdempotencyHeader, RepeatedRequest, repeatable
from deploy.api.stories.history_recorder import Keep, record_history
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.protocols import Characters, Generator
from deploy.interfaces.responses import ImageResponse
from deploy.interfaces.stories import Stories


def image_routes(
    config: Config,
    model: str,
    characters: Characters,
    generator: Generator,
    stories: Stories,
    time_limits: TimeLimits,
    answers: AnswerStore,
) -> APIRouter:
    """The route of images with stored characters."""
    router = APIRouter(prefix="/v1/images")

    @router.post("/generations", response_model=ImageResponse, response_model_exclude_none=True, responses=RESPONSES)
    async def generate_images(
        body: ImageRequest,
        http: Request,
        caller: CurrentCaller,
        keep: Keep = None,
        idempotency_key: IdempotencyHeader = None,
    ) -> Any:
        started = time.perf_counter()
        body, identity = await repeatable("generations", body, idempotency_key, caller.owner)
        repeat = RepeatedRequest(answers, caller.owner, identity)
        if (known := await repeat.answer()) is not None:
            return known
        request = await resolve_request(body, config, model, characters, caller.owner)
        await time_limits.check(request)
        source = record_history(generator, stories, keep, body.prompt, model)
        async with await caller.charge(request, identity) as charge:
            request = await with_control(request, body.control, characters)
            context = RequestContext(body, request, charge, repeat, http, started)
            return await execute(context, "image_generation", model, source)

    return router
