"""Responses with images, encoded in threads: the event loop serves all other requests meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

#: Bytes of a part of a response that is sent in parts.
_PART = 1 << 18


async def json_response(make: Callable[[], BaseModel], status: int = 200, exclude_none: bool = False) -> Response:
    """What ``make`` returns as JSON. It is called in a thread, where it may encode images."""

    def encode() -> bytes:
        return make().model_dump_json(exclude_none=exclude_none).encode()

    return Response(await asyncio.to_thread(encode), status, media_type="application/json")


def with_stored_member(outer: BaseModel, name: str, stored: bytes) -> Response:
    """``outer`` as JSON with one more member, whose JSON is ``stored`` and is sent as it is, in parts."""
    head = outer.model_dump_json(exclude_none=True).encode()
    contents = head[:-1], f',"{name}":'.encode(), stored, b"}"
    length = {"Content-Length": str(sum(map(len, contents)))}
    return StreamingResponse(_parts(contents), headers=length, media_type="application/json")


def _parts(contents: Iterable[bytes]) -> Iterator[bytes]:
    for content in contents:
        view = memoryview(content)
        for start in range(0, len(view), _PART):
            yield bytes(view[start : start + _PART])
