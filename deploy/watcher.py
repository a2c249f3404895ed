"""Waits for changes of records, such as jobs, with one query for all who wait in this process."""

from __future__ import annotations

import asyncio
import logging
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

Version = TypeVar("Version")
News = TypeVar("News")
log = logging.getLogger(__name__)
#: Threads that read for those who wait. They are not those that renew leases, which must not wait for streams.
_THREADS = 2


class Watcher(Generic[Version]):
    """Polls the versions of all watched records at once, every ``interval_s`` seconds, while there are any.

    Args:
        part: name of the part of the service, for log lines.
        read_versions: the versions of records by id, without those that do not exist.
        differs: whether there is news for one who knows the first version; the second is None if the record does not
            exist.
    """

    def __init__(
        self,
        part: str,
        read_versions: Callable[[Sequence[str]], Mapping[str, Version]],
        interval_s: float,
        differs: Callable[[Version, Version | None], bool] = operator.ne,
    ) -> None:
        self._part, self._read_versions = part, read_versions
        self._interval_s, self._differs = interval_s, differs
        self._threads = ThreadPoolExecutor(_THREADS, "watcher")
        #: The record and the version that each event waits to be replaced.
        self._waiting: dict[asyncio.Event, tuple[str, Version]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def watch(
        self, identifier: str, known: Version, read: Callable[[], News | None], wait_s: float
    ) -> News | None:
        """What ``read`` returns, once the record is of another version than ``known``; None after ``wait_s`` seconds.

        Args:
            read: called in a thread at the beginning, after a change and at the end; None if there is no news.
        """
        deadline = time.monotonic() + wait_s
        while True:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, read)
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            await self._wait_for_change(identifier, known, left)

    def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _wait_for_change(self, identifier: str, known: Version, seconds: float) -> None:
        changed = asyncio.Event()
        self._waiting[changed] = identifier, known
        loop = asyncio.get_running_loop()
        if self._polling is None or self._polling.done() or self._polling.get_loop() is not loop:
            self._polling = loop.create_task(self._poll())
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            return
        finally:
            del self._waiting[changed]

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(self._interval_s)
            waiting = dict(self._waiting)
            identifiers = sorted({identifier for identifier, _ in waiting.values()})
            try:
                versions = await loop.run_in_executor(self._threads, self._read_versions, identifiers)
            except SQLAlchemyError as error:  # the streams go on when the database answers again
                log.warning("%s: the database does not answer: %s", self._part, type(error).__name__)
                continue
            for changed, (identifier, known) in waiting.items():
                if self._differs(known, versions.get(identifier)):
                    changed.set()
