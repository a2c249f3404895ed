"""Executes jobs: claims one, renews its lease while the generator works, and stores the outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from components.config import JobsConfig
from components.content import ContentError
from components.errors import RealCustomError
from components.jobs.job import JobProgress, Lease, LeaseStatus, Preview
from components.jobs.queue import JobQueue
from deploy.interfaces.errors import BusyError, UnavailableError, describe_error
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import JobPayload
from deploy.interfaces.responses import image_response
from deploy.interfaces.results import GenerationResult

log = logging.getLogger(__name__)
T = TypeVar("T")

_OUTDATED = {"message": "another version of the service has written this job: submit it again", "code": "outdated"}
#: A lease is renewed this many times in its duration, even without progress.
_RENEWALS = 3


class _PendingUpdates:
    """Progress and previews of a job that are not stored yet."""

    def __init__(self) -> None:
        self.progress: JobProgress | None = None
        #: The newest preview by image index.
        self.previews: dict[int, Preview] = {}

    def pop(self) -> tuple[JobProgress | None, list[Preview]]:
        updates = self.progress, list(self.previews.values())
        self.progress, self.previews = None, {}
        return updates


class JobWorker:
    """Executes one job per call of `run_next`; calls may overlap."""

    def __init__(self, queue: JobQueue, generator: Generator, limits: JobsConfig) -> None:
        self._queue, self._generator, self._limits = queue, generator, limits

    async def run_next(self) -> bool:
        """Execute the next job; False if none is queued. Cancelling this puts the job back into the queue."""
        lease = await asyncio.to_thread(self._queue.claim)
        if lease is None:
            return False
        started = time.monotonic()
        try:
            job = JobPayload.from_json(lease.payload)
        except ValidationError:
            await self._retry_database(self._queue.fail, lease, _OUTDATED)
            return True
        updates = _PendingUpdates()
        generation = asyncio.create_task(self._generate(job, updates))
        try:
            lease_status = await self._hold_lease(lease, generation, updates)
            if lease_status is LeaseStatus.CANCELLED:
                await self._retry_database(self._queue.cancelled, lease)
            elif lease_status is LeaseStatus.HELD:
                await self._store_outcome(lease, job, generation, started)
        except asyncio.CancelledError:
            await asyncio.to_thread(self._queue.release, lease)
            raise
        finally:
            generation.cancel()
            await asyncio.gather(generation, return_exceptions=True)
        return True

    async def _generate(self, job: JobPayload, updates: _PendingUpdates) -> GenerationResult:
        """Generate the job's images.

        A generator keeps the request's time limit itself; the one here is for a generator that does not answer.
        """
        result: GenerationResult | None = None
        try:
            timeout = asyncio.timeout(self._limits.timeout_s + self._limits.lease_s)
            async with timeout, aclosing(self._generator.stream(job.request, job.previews)) as events:
                async for event in events:
                    if isinstance(event, GenerationResult):
                        result = event
                    elif isinstance(event, Preview):
                        updates.previews[event.picture] = event
                    else:
                        updates.progress = event
        except TimeoutError:
            raise UnavailableError("the generator does not answer") from None
        if result is None:
            raise UnavailableError("the generator ended its stream without a result")
        return result

    async def _hold_lease(
        self, lease: Lease, generation: asyncio.Task[GenerationResult], updates: _PendingUpdates
    ) -> LeaseStatus:
        """Renew the lease until the images are done, or the job was cancelled or lost."""
        renewed = time.monotonic()
        while True:
            await asyncio.wait({generation}, timeout=self._limits.tick_s)
            if generation.done():
                return LeaseStatus.HELD
            progress, previews = updates.pop()
            due = time.monotonic() - renewed > self._limits.lease_s / _RENEWALS
            try:
                if progress or previews or due:
                    lease_status = await asyncio.to_thread(self._queue.renew, lease, progress, previews)
                    renewed = time.monotonic()
                else:
                    lease_status = await asyncio.to_thread(self._queue.lease_status, lease)
            except SQLAlchemyError as error:
                log.warning("job %s: the database does not answer: %s", lease.job, type(error).__name__)
                lease_status = (
                    LeaseStatus.HELD if time.monotonic() - renewed < self._limits.lease_s else LeaseStatus.LOST
                )
            if lease_status is not LeaseStatus.HELD:
                return lease_status

    async def _store_outcome(
        self, lease: Lease, job: JobPayload, generation: asyncio.Task[GenerationResult], started: float
    ) -> None:
        """Store the result or the error. The log names an error's class only: its message may quote the request."""
        error = UnavailableError("the generation was interrupted") if generation.cancelled() else generation.exception()
        if error is None:
            response = await asyncio.to_thread(_response, job, generation.result(), time.monotonic() - started)
            await self._retry_database(self._queue.finish, lease, response)
        elif isinstance(error, BusyError):
            await self._retry_database(self._queue.release, lease, self._delay_s(lease))
        elif isinstance(error, UnavailableError):
            log.warning("job %s, attempt %d: %s", lease.job, lease.attempt, error)
            await self._retry_database(self._queue.retry, lease, str(error), self._delay_s(lease))
        elif isinstance(error, RealCustomError):
            shown = describe_error(error)
            details = {"message": shown.message, "param": shown.param, "code": shown.code}
            # As for images that a client waits for: what the content policy refuses was generated.
            fail = partial(self._queue.fail, refunded=not isinstance(error, ContentError))
            await self._retry_database(fail, lease, details)
        else:
            log.error("job %s, attempt %d: %s", lease.job, lease.attempt, type(error).__name__)
            await self._retry_database(self._queue.retry, lease, "internal error", self._delay_s(lease))

    def _delay_s(self, lease: Lease) -> float:
        """Seconds before the next attempt: exponential backoff."""
        return self._limits.tick_s * float(2**lease.attempt)

    async def _retry_database(self, change: Callable[..., T], *arguments: Any) -> T:
        """Call ``change`` in a thread until the database answers, at most as long as a lease lasts.

        After that the lease has expired, and another worker executes the job again.
        """
        deadline = time.monotonic() + self._limits.lease_s
        while True:
            try:
                return await asyncio.to_thread(change, *arguments)
            except SQLAlchemyError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(self._limits.tick_s)


def _response(job: JobPayload, result: GenerationResult, total_s: float) -> bytes:
    response = image_response(job.request, result, job.model, job.return_masks, total_s)
    return response.model_dump_json(exclude_none=True).encode()
