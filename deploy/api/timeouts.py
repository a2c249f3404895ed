"""The time limit of requests."""

from __future__ import annotations

import asyncio

from fastapi.sse import format_sse_event
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.api.error_responses import error_response
from deploy.api.retry_after import RetryAfter
from deploy.interfaces.errors import BusyError


class TimeoutMiddleware:
    """ASGI middleware: cancels a request after ``seconds``.

    It responds with 503 if no response was started. A stream of events ends with an event ``error`` of the same body.
    """

    def __init__(self, app: ASGIApp, seconds: float, retry_after: RetryAfter) -> None:
        self._app, self._seconds, self._retry_after = app, seconds, retry_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = is_stream = False

        async def send_and_note(message: Message) -> None:
            nonlocal started, is_stream
            started = True
            if message["type"] == "http.response.start":
                is_stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            await send(message)

        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._app(scope, receive, send_and_note)
        except TimeoutError:
            if not limit.expired() or (started and not is_stream):
                raise
            error = BusyError(f"the request was not done within {self._seconds:g} s; try again later")
            response = error_response(error, await self._retry_after.seconds(error))
            if not started:
                await response(scope, receive, send)
                return
            event = format_sse_event(event="error", data_str=bytes(response.body).decode())
            await send({"type": "http.response.body", "body": event, "more_body": False})
