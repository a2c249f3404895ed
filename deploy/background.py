"""Periodic background work of the deployments in their event loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, partial
from typing import Generic, ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")
P = ParamSpec("P")
#: Calls of the database that a process makes at a time.
_DATABASE_THREADS = 32
#: Between background calls that fail one after another, in seconds.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.025, 2.0
log = logging.getLogger(__name__)
#: Tasks that outlive their request; the event loop itself holds tasks weakly.
_tasks: set[asyncio.Task[None]] = set()


async def repeat(part: str, work: Callable[[], Awaitable[bool]], pause: Callable[[], Awaitable[None]]) -> None:
    """Call ``work`` in an endless loop, and ``pause`` after a call that returned False or raised.

    Calls that raise one after another are made ever less often: a wait that doubles up to `_LONGEST_WAIT_S` is added.

    Args:
        part: name of the part of the service, for log lines.
    """
    failures = 0
    while True:
        try:
            busy = await work()
            failures = 0
        except Exception as error:  # only its class is logged: the message may quote a request
            log.error("%s: %s", part, type(error).__name__)
            busy = False
            failures += 1
        if not busy:
            await pause()
        if failures > 1:
            await asyncio.sleep(min(_FIRST_WAIT_S * 2 ** min(failures, 16), _LONGEST_WAIT_S) * random.uniform(0.5, 1))


async def every(seconds: float, part: str, work: Callable[[], Awaitable[bool]]) -> None:
    """Call ``work`` every ``seconds``, first after a random part of them, so that replicas take turns."""
    await asyncio.sleep(random.uniform(0, seconds))
    await repeat(part, work, partial(asyncio.sleep, seconds))


def run_in_background(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Begin ``work`` in the running event loop; it goes on when the request that has begun it is over."""
    task = asyncio.create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


async def in_database_thread(call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """As `asyncio.to_thread`, in threads of their own: a database that does not answer delays no other work."""
    run = partial(copy_context().run, call, *arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(_database_threads(), run)


@cache
def _database_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_DATABASE_THREADS, "database")


class BatchWriter(Generic[T]):
    """Collects items, and writes them together, in a thread, about once an interval.

    While the database does not answer they wait, and the oldest are dropped if there are too many.

    Args:
        part: name of the part of the service, for log lines.
        write: writes all of some items, or none and raises SQLAlchemyError.
    """

    def __init__(
        self, part: str, write: Callable[[list[T]], None], interval_s: float = 1.0, max_items: int = 100_000
    ) -> None:
        self._part, self._write, self._interval_s = part, write, interval_s
        self._items: deque[T] = deque(maxlen=max_items)
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, item: T) -> None:
        """Add an item; call it in an event loop."""
        if len(self._items) == self._items.maxlen:
            log.error("%s: an entry is dropped, because the database does not answer", self._part)
        self._items.append(item)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_later())

    async def flush(self) -> None:
        """Write what there is, and wait for it."""
        async with self._writing:
            items = list(self._items)
            self._items.clear()
            if not items:
                return
            try:
                await in_database_thread(self._write, items)
            except SQLAlchemyError as error:
                log.error("%s: %s", self._part, type(error).__name__)
                room = (self._items.maxlen or 0) - len(self._items)
                self._items.extendleft(reversed(items[-room:] if room else []))

    async def _write_later(self) -> None:
        while self._items:
            await asyncio.sleep(self._interval_s)
            await self.flush()
