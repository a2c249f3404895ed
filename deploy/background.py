"""Periodic background work of the deployments in their event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


async def repeat(part: str, work: Callable[[], Awaitable[bool]], pause: Callable[[], Awaitable[None]]) -> None:
    """Call ``work`` in an endless loop, and ``pause`` after a call that returned False or raised.

    Args:
        part: name of the part of the service, for log lines.
    """
    while True:
        try:
            busy = await work()
        except Exception as error:  # only its class is logged: the message may quote a request
            log.error("%s: %s", part, type(error).__name__)
            busy = False
        if not busy:
            await pause()


async def poll(read: Callable[[], T | None], wait_s: float, interval_s: float) -> T | None:
    """Call ``read`` in a thread every ``interval_s`` seconds until it returns a value; None after ``wait_s``."""
    deadline = time.monotonic() + wait_s
    while True:
        found = await asyncio.to_thread(read)
        left = deadline - time.monotonic()
        if found is not None or left <= 0:
            return found
        await asyncio.sleep(min(left, interval_s))
