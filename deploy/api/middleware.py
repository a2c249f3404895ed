"""ASGI middleware of all routes: the body's size limit, and the response to unexpected errors."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.logs import traceback_without_messages
from deploy.api.error_responses import ApiError, error_envelope

log = logging.getLogger(__name__)


class BodySizeLimitMiddleware:
    """ASGI middleware: a body of more bytes than its path takes, with or without Content-Length, gets 413.

    Args:
        max_bytes: the limit of a path.
    """

    def __init__(self, app: ASGIApp, max_bytes: Callable[[str], int]) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_length = dict(scope.get("headers", ())).get(b"content-length", b"0")
        max_bytes = self._max_bytes(scope.get("path", ""))
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes or (content_length.isdigit() and float(content_length) > max_bytes):
                raise ApiError(413, f"the request has more than {max_bytes:,} bytes", code="too_large")
            return message

        await self._app(scope, receive_limited if scope["type"] == "http" else receive, send)


class UnexpectedErrorMiddleware:
    """ASGI middleware: an unhandled exception gets 500.

    The log contains its class and its traceback, but not its message, which may quote the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http":
                raise
            log.error("%s %a: %s", scope["method"], scope["path"], traceback_without_messages(error))
            if not started:  # otherwise the server closes the connection before the end of the response
                await error_envelope(500, "internal error")(scope, receive, send)
