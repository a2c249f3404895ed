"""What stands before all routes: limits on what is read, and on what is said of errors."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.api.error_responses import ApiError, envelope

log = logging.getLogger(__name__)


class LimitBody:
    """ASGI middleware: a request body of more than ``max_bytes``, announced or not, is answered with 413.

    Args:
        larger: paths that have limits of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int] = {}) -> None:
        self._app, self._max_bytes, self._larger = app, max_bytes, larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = dict(scope.get("headers", ())).get(b"content-length", b"0")
        max_bytes = self._larger.get(scope.get("path", ""), self._max_bytes)
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes or (announced.isdigit() and float(announced) > max_bytes):
                raise ApiError(413, f"the request has more than {max_bytes:,} bytes", code="too_large")
            return message

        await self._app(scope, limited if scope["type"] == "http" else receive, send)


class HideErrors:
    """ASGI middleware: an error that nobody has foreseen is answered with 500.

    What the log has of it is its kind and its place, not its words: they may hold what was asked for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            log.error("%s %a: %s", scope["method"], scope["path"], places(error))
            if not started:  # otherwise the server ends the line in the middle
                await envelope(500, "internal error")(scope, receive, send)


def places(error: BaseException) -> str:
    """The kinds of an error and of those behind it, with the lines of code where they were raised."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__ or error.__context__,)
    lines = "".join(traceback.format_tb(error.__traceback__))
    behind = [f"{type(error).__name__}\n{lines}", *(places(each) for each in inner if each is not None)]
    return "behind it: ".join(behind)
