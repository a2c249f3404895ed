"""Executes a generation request and responds with JSON or with a stream of events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.sse import KEEPALIVE_COMMENT

from deploy.api.disconnects import ClientDisconnectedError, cancel_on_disconnect
from deploy.api.images.events import ImageEvents
from deploy.api.images.schema import BaseImageRequest
from deploy.api.large_responses import json_response
from deploy.api.quotas import Charge
from deploy.api.repeated_requests import RepeatedRequest
from deploy.api.sse import EventStreamResponse
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.responses import image_response
from deploy.interfaces.results import GenerationEvent, GenerationResult

#: Status in metrics and logs of a request whose client has disconnected; nobody receives it.
_CLIENT_CLOSED = 499
#: The responses of `execute` in the OpenAPI document (`deploy.api.openapi` adds the schemas).
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pictures, or with `stream` Server-Sent Events whose data are these",
        "content": {
            "text/event-stream": {
                "schema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/PartialImageEvent"},
                        {"$ref": "#/components/schemas/CompletedImageEvent"},
                    ]
                }
            }
        },
    }
}


@dataclass(frozen=True)
class RequestContext:
    """A request for images: its JSON, the resolved request, its charge and the HTTP request.

    Args:
        charge: open as a context manager around `execute`.
        repeat: stores the answer.
        started: when it arrived, by `time.perf_counter`.
    """

    body: BaseImageRequest
    request: GenerationRequest
    charge: Charge
    repeat: RepeatedRequest
    http: Request
    started: float


async def execute(context: RequestContext, kind: str, model: str, generator: Generator) -> Response:
    """Generate the images and respond. A disconnect of the client cancels the generation and leaves it charged.

    Args:
        kind: prefix of the events' types, ``image_generation`` or ``image_edit``.
        model: the model's id in the response.
    """
    try:
        if context.body.stream:
            store = partial(context.repeat.store, media_type="text/event-stream")
            events = ImageEvents(kind, context.body, context.request, model, context.started, store)
            encoded = events.encode(_stream(context, generator))
            first = await cancel_on_disconnect(context.http, anext(encoded, KEEPALIVE_COMMENT))
            return EventStreamResponse(encoded, first, context.charge.refund)
        result = await cancel_on_disconnect(context.http, generator.generate(context.request))
    except ClientDisconnectedError as error:
        await context.charge.settle(error)
        return Response(status_code=_CLIENT_CLOSED)
    total_s = time.perf_counter() - context.started
    body = context.body
    make = partial(image_response, context.request, result, model, body.return_masks, total_s, body.prompt)
    response = await json_response(make, exclude_none=True)
    context.charge.keep()
    await context.repeat.store(bytes(response.body), "application/json")
    return response


async def _stream(context: RequestContext, generator: Generator) -> AsyncGenerator[GenerationEvent, None]:
    try:
        async with aclosing(generator.stream(context.request, context.body.partial_images)) as events:
            async for event in events:
                if isinstance(event, GenerationResult):
                    context.charge.keep()
                yield event
    except Exception as error:  # who has cancelled a stream is known to its response
        await context.charge.settle(error)
        raise
