"""Renews the leases of running jobs, apart from all other work: on connections and in threads of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from components.jobs.job import Lease, LeaseStatus
from components.jobs.queue import JobQueue

log = logging.getLogger(__name__)
#: A lease is renewed this many times in its duration.
_RENEWALS = 3


class KeptLease:
    """A lease that is renewed until it is lost."""

    def __init__(self, lease: Lease, renewal: asyncio.Task[None]) -> None:
        self.lease, self._renewal = lease, renewal

    @property
    def lost(self) -> bool:
        """Whether another worker may have the job, or the job has ended."""
        return self._renewal.done()

    async def lost_within(self, seconds: float) -> bool:
        """Wait for ``seconds``, or until the lease is lost, and say which."""
        await asyncio.wait({self._renewal}, timeout=seconds)
        return self.lost


class LeaseKeeper:
    """Keeps the leases of up to ``together`` jobs, one thread for each.

    Args:
        queue: over an engine of its own, with as many connections.
    """

    def __init__(self, queue: JobQueue, lease_s: float, together: int) -> None:
        self._queue, self._interval_s = queue, lease_s / _RENEWALS
        self._threads = ThreadPoolExecutor(together, "leases")

    @contextmanager
    def kept(self, lease: Lease) -> Iterator[KeptLease]:
        """Renew ``lease`` during the block."""
        renewal = asyncio.create_task(self._renew(lease))
        try:
            yield KeptLease(lease, renewal)
        finally:
            renewal.cancel()

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def _renew(self, lease: Lease) -> None:
        """Return when the lease is lost. While the database does not answer it is not: nobody else can get it."""
        while True:
            await asyncio.sleep(self._interval_s)
            loop = asyncio.get_running_loop()
            try:
                status = await loop.run_in_executor(self._threads, self._queue.renew, lease)
            except SQLAlchemyError as error:
                log.warning("job %s: its lease cannot be renewed: %s", lease.job, type(error).__name__)
                continue
            if status is LeaseStatus.LOST:
                return
