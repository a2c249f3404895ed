"""Executes jobs: claims one, follows the generator while its lease is kept, and stores the outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from components.config import JobsConfig
from components.content import ContentError
from components.database import UNAVAILABLE
from components.errors import RealCustomError
from components.jobs.job import JobProgress, Lease, LeaseStatus, Preview
from components.jobs.queue import JobQueue
from components.logs import LogContext, within
from deploy.background import in_database_thread
from deploy.interfaces.errors import BusyError, ReplicaDiedError, TimeLimitError, UnavailableError, describe_error
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import GenerationRequest, JobPayload
from deploy.interfaces.responses import image_response
from deploy.interfaces.results import GenerationResult
from deploy.jobs.leases import KeptLease, LeaseKeeper

log = logging.getLogger(__name__)

_OUTDATED = {"message": "another version of the service has written this job: submit it again", "code": "outdated"}
#: Maximum seconds between two attempts to store an outcome.
_LONGEST_PAUSE_S = 30.0
#: How often a worker tries to say that it lives.
_SURVIVAL_ATTEMPTS = 5
_NOT_STORED = {"message": "the result could not be stored", "param": None, "code": "gave_up"}


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
    """Executes one job per call of `run_next`; calls may overlap.

    Args:
        read_take: reads the PNG of a take, given the ids of its story and its own.
    """

    def __init__(
        self,
        queue: JobQueue,
        generator: Generator,
        limits: JobsConfig,
        read_take: Callable[[str, str], bytes],
        leases: LeaseKeeper,
    ) -> None:
        self._queue, self._generator, self._limits = queue, generator, limits
        self._read_take, self._leases = read_take, leases

    async def run_next(self) -> bool:
        """Execute the next job; False if none is queued. Cancelling this puts the job back into the queue."""
        lease = await self._claim()
        if lease is None:
            return False
        context = LogContext(lease.request_id, lease.job, lease.owner, lease.key_id)
        with within(context), self._leases.kept(lease) as kept:
            await self._run(lease, kept)
        return True

    async def _run(self, lease: Lease, kept: KeptLease) -> None:
        started = time.monotonic()
        try:
            job = JobPayload.from_json(lease.payload)
        except ValidationError:
            await self._settle(kept, self._queue.fail, lease, _OUTDATED)
            return
        updates = _PendingUpdates()
        generation = asyncio.create_task(self._generate(job, updates))
        try:
            lease_status = await self._follow(kept, generation, updates)
            if lease_status is LeaseStatus.CANCELLED:
                await self._settle(kept, self._queue.cancelled, lease)
            elif lease_status is LeaseStatus.HELD:
                await self._store_outcome(kept, job, generation, started)
            else:
                await self._survive(lease)
        except asyncio.CancelledError:
            await self._release(lease)
            raise
        finally:
            generation.cancel()
            await asyncio.gather(generation, return_exceptions=True)

    async def _claim(self) -> Lease | None:
        claim = asyncio.create_task(in_database_thread(self._queue.claim))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:  # the thread claims a job all the same
            with suppress(SQLAlchemyError):
                lease = await claim
                if lease is not None:
                    await self._release(lease)
            raise

    async def _release(self, lease: Lease) -> None:
        """Put the job back into the queue; if that fails, another worker takes it over when the lease has expired."""
        try:
            await in_database_thread(self._queue.release, lease)
        except SQLAlchemyError as error:
            log.warning("job %s: it cannot be released: %s", lease.job, type(error).__name__)

    async def _generate(self, job: JobPayload, updates: _PendingUpdates) -> GenerationResult:
        """Generate the job's images.

        A generator keeps the request's time limit itself; the one here is for a generator that does not answer.
        """
        result: GenerationResult | None = None
        try:
            timeout = asyncio.timeout(self._limits.timeout_s + self._limits.lease_s)
            request = await self._with_take(job.request)
            async with timeout, aclosing(self._generator.stream(request, job.previews)) as events:
                async for event in events:
                    if isinstance(event, GenerationResult):
                        result = event
                    elif isinstance(event, Preview):
                        updates.previews[event.picture] = event
                    else:
                        updates.progress = event
        except TimeoutError:
            raise TimeLimitError("the generator does not answer") from None
        if result is None:
            raise UnavailableError("the generator ended its stream without a result")
        return result

    async def _with_take(self, request: GenerationRequest) -> GenerationRequest:
        """The request with the picture of the take that it redraws, if it does."""
        if request.redraw is None or request.redraw.take is None:
            return request
        source = request.redraw.take
        picture = await asyncio.to_thread(self._read_take, source.story, source.take)
        return replace(request, redraw=replace(request.redraw, picture=picture))

    async def _follow(
        self, kept: KeptLease, generation: asyncio.Task[GenerationResult], updates: _PendingUpdates
    ) -> LeaseStatus:
        """Store progress until the images are done, or the job was cancelled or lost.

        While the database does not answer, the generation goes on: no other worker can take the job over.
        """
        while True:
            await asyncio.wait({generation}, timeout=self._limits.tick_s)
            if generation.done():
                return LeaseStatus.HELD
            if kept.lost:
                return LeaseStatus.LOST
            progress, previews = updates.pop()
            try:
                if progress or previews:
                    lease_status = await in_database_thread(self._queue.renew, kept.lease, progress, previews)
                else:
                    lease_status = await in_database_thread(self._queue.lease_status, kept.lease)
            except SQLAlchemyError as error:
                log.warning("job %s: the database does not answer: %s", kept.lease.job, type(error).__name__)
                continue
            if lease_status is not LeaseStatus.HELD:
                return lease_status

    async def _store_outcome(
        self, kept: KeptLease, job: JobPayload, generation: asyncio.Task[GenerationResult], started: float
    ) -> None:
        """Store the result or the error. The log names an error's class only: its message may quote the request."""
        lease = kept.lease
        error = UnavailableError("the generation was interrupted") if generation.cancelled() else generation.exception()
        if error is None:
            response = await asyncio.to_thread(_response, job, generation.result(), time.monotonic() - started)
            await self._settle(kept, self._queue.finish, lease, response)
        elif isinstance(error, BusyError):
            await self._settle(kept, self._queue.release, lease, self._delay_s(lease))
        elif isinstance(error, ReplicaDiedError):
            log.warning("job %s, attempt %d: %s", lease.job, lease.attempt, error)
            await self._settle(kept, partial(self._queue.suspect, certain=error.alone), lease, str(error))
        elif isinstance(error, TimeLimitError):
            log.warning("job %s, attempt %d: %s", lease.job, lease.attempt, error)
            await self._settle(kept, self._queue.retry, lease, str(error), self._delay_s(lease))
        elif (reason := _trouble(error)) is not None:
            log.warning("job %s is postponed: %s", lease.job, reason)
            await self._settle(kept, self._queue.postpone, lease, reason)
        elif isinstance(error, RealCustomError):
            shown = describe_error(error)
            details = {"message": shown.message, "param": shown.param, "code": shown.code}
            # As for images that a client waits for: what the content policy refuses was generated.
            fail = partial(self._queue.fail, refunded=not isinstance(error, ContentError))
            await self._settle(kept, fail, lease, details)
        else:
            log.error("job %s, attempt %d: %s", lease.job, lease.attempt, type(error).__name__)
            await self._settle(kept, self._queue.retry, lease, "internal error", self._delay_s(lease))

    def _delay_s(self, lease: Lease) -> float:
        """Seconds before the next attempt: exponential backoff."""
        return self._limits.tick_s * float(2**lease.attempt)

    async def _settle(self, kept: KeptLease, change: Callable[..., bool], *arguments: Any) -> None:
        """Call ``change`` in a thread until the database and the store answer.

        Gives up when another worker has the job, or after ``give_up_s``, when the job fails if the database answers.
        """
        lease, pause_s = kept.lease, self._limits.tick_s
        deadline = time.monotonic() + self._limits.give_up_s
        while True:
            try:
                await in_database_thread(change, *arguments)
                return
            except Exception as error:  # what an object store raises depends on its library
                log.warning("job %s: its outcome cannot be stored: %s", lease.job, type(error).__name__)
            if time.monotonic() > deadline:
                await in_database_thread(self._queue.fail, lease, _NOT_STORED)
                return
            if await kept.lost_within(pause_s):
                await self._survive(lease)
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _survive(self, lease: Lease) -> None:
        """Say that this worker did not die when it lost the lease."""
        for _ in range(_SURVIVAL_ATTEMPTS):
            try:
                await in_database_thread(self._queue.survived, lease)
                return
            except SQLAlchemyError as error:
                log.warning("job %s: its lease was lost: %s", lease.job, type(error).__name__)
            await asyncio.sleep(self._limits.tick_s)


def _trouble(error: BaseException) -> str | None:
    """What is wrong with the infrastructure; None if ``error`` is another one."""
    if isinstance(error, UnavailableError):
        return str(error)
    if isinstance(error, UNAVAILABLE):
        return "the database does not answer"
    # A missing file stays missing.
    absent = isinstance(error, FileNotFoundError)
    return "the store does not answer" if isinstance(error, OSError) and not absent else None


def _response(job: JobPayload, result: GenerationResult, total_s: float) -> bytes:
    response = image_response(job.request, result, job.model, job.return_masks, total_s)
    return response.model_dump_json(exclude_none=True).encode()
