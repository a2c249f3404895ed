"""Server-Sent Events: the response, and keep-alive comments while nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
#: Seconds without an event after which a stream sends a keep-alive comment.
KEEPALIVE_S = 10.0


class EventStreamResponse(StreamingResponse):
    """A stream of encoded events. The generator is closed as soon as the response ends, also on a disconnect.

    Args:
        first: an event that was awaited before the response started, so that its error could be a status code.
        on_cancel: awaited if the response is cancelled, which a disconnect of the client does not do.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        first: bytes | None = None,
        on_cancel: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_chain(first, events), media_type="text/event-stream", headers=headers)
        self._events, self._on_cancel = events, on_cancel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            if self._on_cancel is not None:
                await self._on_cancel()
            raise
        finally:
            await self._events.aclose()


async def with_keepalive(items: AsyncGenerator[T, None], interval_s: float) -> AsyncGenerator[T | None, None]:
    """Yield ``items``, and None whenever there was none for ``interval_s`` seconds."""
    queue: asyncio.Queue[T | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    queue.put_nowait(item)
        finally:
            queue.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while True:
            try:
                item = await asyncio.wait_for(queue.get(), interval_s)
            except TimeoutError:
                yield None
                continue
            if item is None:
                await reader  # raises the exception of ``items``, if any
                return
            yield item
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _chain(first: bytes | None, others: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    if first is not None:
        yield first
    async for event in others:
        yield event
