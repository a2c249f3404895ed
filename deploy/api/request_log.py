"""The id of each request, in its response and in all log lines about it; and a line for each request."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.logs import FIELDS, LogContext, within
from deploy.api.audit_recorder import AuditRecorder

log = logging.getLogger(__name__)
_HEADER = "x-request-id"
#: What ids of clients may look like; another one is replaced.
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestLogMiddleware:
    """ASGI middleware: takes the request id from ``X-Request-Id`` or makes one, and logs the request at its end.

    The line has the route, not the path, and no query.

    Args:
        echo: send the id with the response; Serve's proxy does so itself.
        audit: records what was done.
    """

    def __init__(self, app: ASGIApp, echo: bool, audit: AuditRecorder) -> None:
        self._app, self._echo, self._audit = app, echo, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        request = given if _ID.fullmatch(given) else secrets.token_hex(16)
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._echo:
                    headers = MutableHeaders(raw=list(message["headers"]))
                    headers[_HEADER] = request
                    message = {**message, "headers": headers.raw}
            await send(message)

        scope.setdefault("state", {})
        with within(LogContext(request=request)):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _log(scope, status, time.perf_counter() - started)
                await self._audit.record(scope, status)


def _log(scope: Scope, status: int, seconds: float) -> None:
    method, route = scope["method"], getattr(scope.get("route"), "path", "other")
    fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
    log.info("%s %s %d", method, route, status, extra={FIELDS: fields})
