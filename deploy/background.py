"""Periodic background work of the deployments in their event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
#: Calls of the database that a process makes at a time.
_DATABASE_THREADS = 32
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


async def in_database_thread(call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """As `asyncio.to_thread`, in threads of their own: a database that does not answer delays no other work."""
    return await asyncio.get_running_loop().run_in_executor(_database_threads(), partial(call, *arguments, **options))


@cache
def _database_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_DATABASE_THREADS, "database")


async def poll(read: Callable[[], T | None], wait_s: float, interval_s: float) -> T | None:
    """Call ``read``, of the database, every ``interval_s`` seconds until it returns a value; None after ``wait_s``."""
    deadline = time.monotonic() + wait_s
    while True:
        found = await in_database_thread(read)
        left = deadline - time.monotonic()
        if found is not None or left <= 0:
            return found
        await asyncio.sleep(min(left, interval_s))
