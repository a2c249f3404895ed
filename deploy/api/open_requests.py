"""The number of requests that one owner may have open at a gateway."""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.api.error_responses import ApiError, error_response
from deploy.api.quotas import Caller

#: Requests that a gateway takes at the same time, of all owners; streams are among them.
OPEN_REQUESTS = 1000


class OpenRequestsMiddleware:
    """ASGI middleware: refuses requests of an owner with ``limit`` open ones. It goes inside the authentication.

    Without keys there is one owner, who has no limit.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get("state", {}).get("caller")
        if not isinstance(caller, Caller):
            await self._app(scope, receive, send)
            return
        if self._open[caller.owner] >= self._limit:
            message = f"an owner may have {self._limit} requests open; close streams that are not read, or try later"
            await error_response(ApiError(429, message, code="too_many_open"))(scope, receive, send)
            return
        self._open[caller.owner] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[caller.owner] -= 1
            self._open += Counter()  # drops zeros
