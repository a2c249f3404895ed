"""Draws jobs: takes one, keeps it while the generator draws, and ends it. Knows nothing of HTTP or Serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from components.config import JobsConfig
from components.errors import RealCustomError
from components.jobs.job import JobProgress, Lease, LeaseStatus, Preview
from components.jobs.queue import JobQueue
from deploy.api.error_responses import explain
from deploy.api.images.requests import image_response
from deploy.interfaces.protocols import BusyError, Delivery, Generator, JobOrder, UnavailableError

log = logging.getLogger(__name__)
T = TypeVar("T")

_OUTDATED = {"message": "another version of the service has written this job: submit it again", "code": "outdated"}
#: A lease is renewed this often in its time, even where there is no progress to write down.
_RENEWALS = 3


class _Told:
    """What the generator has told of a job and nobody has written down yet."""

    def __init__(self) -> None:
        self.progress: JobProgress | None = None
        self.looks: dict[int, Preview] = {}

    def take(self) -> tuple[JobProgress | None, list[Preview]]:
        taken = self.progress, list(self.looks.values())
        self.progress, self.looks = None, {}
        return taken


class JobWorker:
    """Works on one job at a time, as often as `turn` is called; calls may overlap."""

    def __init__(self, queue: JobQueue, generator: Generator, limits: JobsConfig) -> None:
        self._queue, self._generator, self._limits = queue, generator, limits

    async def turn(self) -> bool:
        """Take a job and see to its end; False if there was none. To cancel this is to give the job back."""
        lease = await asyncio.to_thread(self._queue.claim)
        if lease is None:
            return False
        started = time.monotonic()
        try:
            work = JobOrder.unpack(lease.payload)
        except ValidationError:
            await self._insist(self._queue.fail, lease, _OUTDATED)
            return True
        told = _Told()
        drawing = asyncio.create_task(self._draw(work, told))
        try:
            standing = await self._attend(lease, drawing, told)
            if standing is LeaseStatus.CANCELLED:
                await self._insist(self._queue.cancelled, lease)
            elif standing is LeaseStatus.HELD:
                await self._conclude(lease, work, drawing, started)
        except asyncio.CancelledError:
            await asyncio.to_thread(self._queue.release, lease)
            raise
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
        return True

    async def _draw(self, work: JobOrder, told: _Told) -> Delivery:
        """The pictures; a generator keeps to the order's time, and one that does not is left after a little more."""
        delivery: Delivery | None = None
        try:
            patience = asyncio.timeout(self._limits.timeout_s + self._limits.lease_s)
            async with patience, aclosing(self._generator.draw(work.order, work.previews)) as news:
                async for each in news:
                    if isinstance(each, Delivery):
                        delivery = each
                    elif isinstance(each, Preview):
                        told.looks[each.picture] = each
                    else:
                        told.progress = each
        except TimeoutError:
            raise UnavailableError("the generator does not answer") from None
        if delivery is None:
            raise UnavailableError("the generator stopped in the middle")
        return delivery

    async def _attend(self, lease: Lease, drawing: asyncio.Task[Delivery], told: _Told) -> LeaseStatus:
        """Keep the job until it is drawn, or is not this worker's to draw any more."""
        heard = time.monotonic()
        while True:
            await asyncio.wait({drawing}, timeout=self._limits.tick_s)
            if drawing.done():
                return LeaseStatus.HELD
            progress, looks = told.take()
            due = time.monotonic() - heard > self._limits.lease_s / _RENEWALS
            try:
                if progress or looks or due:
                    standing = await asyncio.to_thread(self._queue.renew, lease, progress, looks)
                    heard = time.monotonic()
                else:
                    standing = await asyncio.to_thread(self._queue.lease_status, lease)
            except SQLAlchemyError as error:
                log.warning("job %s: the database does not answer: %s", lease.job, type(error).__name__)
                standing = LeaseStatus.HELD if time.monotonic() - heard < self._limits.lease_s else LeaseStatus.LOST
            if standing is not LeaseStatus.HELD:
                return standing

    async def _conclude(self, lease: Lease, work: JobOrder, drawing: asyncio.Task[Delivery], started: float) -> None:
        """Write down what has become of a drawing. Errors are named, not quoted: they may hold what was asked for."""
        error = UnavailableError("the drawing was interrupted") if drawing.cancelled() else drawing.exception()
        if error is None:
            answer = await asyncio.to_thread(_answer, work, drawing.result(), time.monotonic() - started)
            await self._insist(self._queue.finish, lease, answer)
        elif isinstance(error, BusyError):
            await self._insist(self._queue.release, lease, self._delay_s(lease))
        elif isinstance(error, UnavailableError):
            log.warning("job %s, attempt %d: %s", lease.job, lease.attempt, error)
            await self._insist(self._queue.retry, lease, str(error), self._delay_s(lease))
        elif isinstance(error, RealCustomError):
            _, message, param, code = explain(error)
            await self._insist(self._queue.fail, lease, {"message": message, "param": param, "code": code})
        else:
            log.error("job %s, attempt %d: %s", lease.job, lease.attempt, type(error).__name__)
            await self._insist(self._queue.retry, lease, "internal error", self._delay_s(lease))

    def _delay_s(self, lease: Lease) -> float:
        return self._limits.tick_s * float(2**lease.attempt)

    async def _insist(self, change: Callable[..., T], *arguments: Any) -> T:
        """Until the database answers, for as long as a lease lasts; after that the job's next attempt sees to it."""
        deadline = time.monotonic() + self._limits.lease_s
        while True:
            try:
                return await asyncio.to_thread(change, *arguments)
            except SQLAlchemyError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(self._limits.tick_s)


def _answer(work: JobOrder, delivery: Delivery, total_s: float) -> bytes:
    answer = image_response(work.order, delivery, work.model, work.return_masks, total_s)
    return answer.model_dump_json(exclude_none=True).encode()
