"""The time limit of requests."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.api.error_responses import error_response
from deploy.api.retry_after import RetryAfter
from deploy.interfaces.errors import BusyError


class TimeoutMiddleware:
    """ASGI middleware: cancels a request after ``seconds`` and responds with 503 if no response was started."""

    def __init__(self, app: ASGIApp, seconds: float, retry_after: RetryAfter) -> None:
        self._app, self._seconds, self._retry_after = app, seconds, retry_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._app(scope, receive, send_and_note)
        except TimeoutError:
            if started or not limit.expired():
                raise
            error = BusyError(f"the request was not done within {self._seconds:g} s; try again later")
            await error_response(error, await self._retry_after.seconds(error))(scope, receive, send)
