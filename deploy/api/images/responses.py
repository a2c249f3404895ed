"""An order is drawn and answered: at once, or as it goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.sse import KEEPALIVE_COMMENT

from deploy.api.disconnects import ClientGoneError, EventStream, while_present
from deploy.api.images.events import ImageEvents, News
from deploy.api.images.requests import image_response
from deploy.api.images.schema import ImageResponse, PictureRequest
from deploy.api.quotas import Caller
from deploy.interfaces.protocols import Delivery, Generator, Order

#: What nobody receives: the client has closed the line.
_CLIENT_CLOSED = 499
#: How `answer` answers, for the interface's document (`deploy.api.openapi` has the schemas).
ANSWERS: dict[int | str, dict[str, Any]] = {
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
class Asked:
    """A request for pictures, the order that it comes to, by whom, over which line, and since when."""

    wanted: PictureRequest
    order: Order
    by: Caller
    line: Request
    #: By `time.perf_counter`.
    started: float


async def answer(asked: Asked, kind: str, model: str, generator: Generator) -> ImageResponse | Response:
    """Draw what was asked for, as long as the client waits for it.

    Args:
        kind: of the events, ``image_generation`` or ``image_edit``.
        model: that answers.
    """
    try:
        if asked.wanted.stream:
            events = ImageEvents(kind, asked.wanted, asked.order, model, asked.started)
            told = events.tell(_charged_news(asked, generator))
            first = await while_present(asked.line, anext(told, KEEPALIVE_COMMENT))
            return EventStream(first, told)
        delivery = await while_present(asked.line, _charged(asked, generator))
    except ClientGoneError:
        return Response(status_code=_CLIENT_CLOSED)
    total_s = time.perf_counter() - asked.started
    return image_response(asked.order, delivery, model, asked.wanted.return_masks, total_s, asked.wanted.prompt)


async def _charged(asked: Asked, generator: Generator) -> Delivery:
    async with await asked.by.charge(asked.order):
        return await generator.generate(asked.order)


async def _charged_news(asked: Asked, generator: Generator) -> AsyncGenerator[News, None]:
    drawing = generator.draw(asked.order, asked.wanted.partial_images)
    async with await asked.by.charge(asked.order), aclosing(drawing) as news:
        async for each in news:
            yield each
