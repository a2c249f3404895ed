"""Limits of a JSON body's structure, checked before anything is built of it.

A parser builds an object for each value and a validator an error for each wrong one: a few megabytes of them would hold
up all other requests. The check itself takes some milliseconds for each megabyte, whatever the body contains.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.api.error_responses import ApiError, error_response

#: Deeper than any body of this service.
MAX_DEPTH = 32
#: A string, also one without an end: what it contains is no structure. Possessive, and so linear.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_NESTING = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_structure(body: bytes, max_values: int, max_depth: int = MAX_DEPTH) -> None:
    """Refuse a body with too many values or too deep a nesting. Whether it is JSON is not checked.

    Raises:
        ApiError: 400 with the limit.
    """
    # At least so many strings, of which a member of an object has two.
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    too_many = strings > 2 * max_values
    outline = b"" if too_many else _STRING.sub(b"", body)
    brackets = outline.translate(None, _NO_BRACKETS)
    if too_many or outline.count(b",") + len(brackets) // 2 > max_values:
        raise ApiError(400, f"the body has more than {max_values:,} values", code="too_complex")
    if max(accumulate(map(_NESTING.__getitem__, brackets)), default=0) > max_depth:
        raise ApiError(400, f"the body is nested more than {max_depth} levels deep", code="too_complex")


class JsonLimitMiddleware:
    """ASGI middleware: reads a body that is no form, and refuses it if its structure exceeds the limits.

    Args:
        max_values: the limit of a path.
    """

    def __init__(self, app: ASGIApp, max_values: Callable[[str], int]) -> None:
        self._app, self._max_values = app, max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS or _is_form(scope):
            await self._app(scope, receive, send)
            return
        try:
            messages = await _read_body(receive)
            check_structure(b"".join(m.get("body", b"") for m in messages), self._max_values(scope["path"]))
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        messages.reverse()

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)


async def _read_body(receive: Receive) -> list[Message]:
    """All messages of the body, or those before the client has disconnected, and that."""
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _is_form(scope: Scope) -> bool:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("multipart/form-data", "application/x-www-form-urlencoded")
