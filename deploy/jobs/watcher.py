"""Waits for changes of jobs with one query for all who wait in this process."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from components.jobs.job import JobUpdate
from components.jobs.store import JobStore

log = logging.getLogger(__name__)
#: Threads that read for those who wait. They are not those that renew leases, which must not wait for streams.
_THREADS = 2


class JobWatcher:
    """Polls the revisions of all watched jobs at once, every ``interval_s`` seconds, while there are any."""

    def __init__(self, store: JobStore, interval_s: float) -> None:
        self._store, self._interval_s = store, interval_s
        self._threads = ThreadPoolExecutor(_THREADS, "watcher")
        #: The job and the revision that each event waits to be replaced.
        self._waiting: dict[asyncio.Event, tuple[str, int]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def watch(self, identifier: str, revision: int, wait_s: float, owner: str) -> JobUpdate | None:
        """See `deploy.interfaces.protocols.Jobs.watch`."""
        deadline = time.monotonic() + wait_s
        while True:
            found = await self._read(identifier, revision, owner)
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            await self._wait_for_change(identifier, revision, left)

    def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _read(self, identifier: str, revision: int, owner: str) -> JobUpdate | None:
        read = partial(self._store.update_since, identifier, revision, owner)
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _wait_for_change(self, identifier: str, revision: int, seconds: float) -> None:
        changed = asyncio.Event()
        self._waiting[changed] = identifier, revision
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
            asked = dict(self._waiting)
            identifiers = sorted({identifier for identifier, _ in asked.values()})
            try:
                revisions = await loop.run_in_executor(self._threads, self._store.revisions, identifiers)
            except SQLAlchemyError as error:  # the streams go on when the database answers again
                log.warning("jobs: the database does not answer: %s", type(error).__name__)
                continue
            for changed, (identifier, revision) in asked.items():
                if revisions.get(identifier) != revision:  # also of a job that is deleted
                    changed.set()
