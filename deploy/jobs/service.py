"""The jobs part: keeps jobs, and sees that they are drawn, told of and in the end swept away.

Knows nothing of HTTP or Serve. All it knows is in the database and beside it: another in its place goes on where it
died.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from components.config import Config
from components.database import open_database
from components.jobs.job import Job, JobUpdate, NewJob, State
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.jobs.tables import TABLES
from components.jobs.webhook_queue import WebhookQueue
from components.object_store import below
from deploy.interfaces.protocols import Generator
from deploy.jobs.webhooks import WebhookSender
from deploy.jobs.worker import JobWorker
from deploy.status.metrics import job_families
from deploy.status.replica_status import Report

log = logging.getLogger(__name__)
#: Seconds between two looks for what is to be swept away.
_SWEEP_S = 60.0


class JobService:
    """`Jobs` over a `JobStore`, with its workers. Database and files are seen to in threads.

    Raises:
        ConfigError: webhooks are allowed, and there is no usable key to sign them with.
    """

    def __init__(self, config: Config, generator: Generator) -> None:
        limits = self._limits = config.serving.jobs
        engine = open_database(config.serving.store, config.serving.database, TABLES)
        results = ResultFiles(below(config.serving.store, "jobs"))
        self._store = JobStore(engine, results, limits.max_queued, max_owned=limits.max_queued_per_owner)
        self._worker = JobWorker(JobQueue(engine, results, limits.lease_s, limits.max_attempts), generator, limits)
        outbox = WebhookQueue(engine, limits.webhook_attempts, limits.webhook_backoff_s)
        self._courier = WebhookSender(outbox, limits) if limits.webhook_origins else None
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        works: list[Callable[[], Awaitable[bool]]] = [self._worker.turn] * self._limits.concurrency
        if self._courier is not None:
            works += [self._courier.turn] * self._limits.concurrency
        loops = [_repeat(work, self._pause) for work in works]
        loops.append(_repeat(self._sweep, partial(asyncio.sleep, _SWEEP_S)))
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    def check(self) -> None:
        """Raise if the work has stopped."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError("a job worker has stopped")

    async def report(self, replica: str) -> Report:
        """How the jobs stand, for the board; they are in trouble where the database is."""
        try:
            outlook = await asyncio.to_thread(self._store.queue_status)
        except SQLAlchemyError as error:
            log.error("jobs: the database does not answer: %s", type(error).__name__)
            return Report("jobs", replica, trouble="the database does not answer")
        at_a_time = self._limits.workers * self._limits.concurrency
        backlog_s = outlook.states.get(State.QUEUED, 0) * outlook.mean_s / at_a_time
        return Report("jobs", replica, backlog_s=backlog_s, metrics=job_families(outlook))

    async def close(self) -> None:
        """Give back what is being worked on; others go on with it at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._courier is not None:
            await self._courier.close()

    async def submit(self, new: NewJob) -> tuple[Job, bool]:
        accepted = await asyncio.to_thread(self._store.submit, new)
        self._woken.set()
        return accepted

    async def known(self, new: NewJob) -> Job | None:
        return await asyncio.to_thread(self._store.known, new)

    async def get(self, identifier: str, owner: str = "") -> Job:
        return await asyncio.to_thread(self._store.get, identifier, owner)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Job]:
        return await asyncio.to_thread(self._store.page, limit, after, owner)

    async def result(self, identifier: str, owner: str = "") -> bytes | None:
        return await asyncio.to_thread(self._store.result, identifier, owner)

    async def cancel(self, identifier: str, owner: str = "") -> Job | None:
        return await asyncio.to_thread(self._store.cancel, identifier, owner)

    async def watch(self, identifier: str, revision: int, wait_s: float, owner: str = "") -> JobUpdate | None:
        deadline = time.monotonic() + wait_s
        while True:
            news = await asyncio.to_thread(self._store.update_since, identifier, revision, owner)
            left = deadline - time.monotonic()
            if news is not None or left <= 0:
                return news
            await asyncio.sleep(min(left, self._limits.tick_s))

    async def _sweep(self) -> bool:
        await asyncio.to_thread(self._store.sweep, self._limits.keep_s)
        return False

    async def _pause(self) -> None:
        """Until somebody submits a job here; others may, elsewhere, so not for longer than a tick."""
        try:
            await asyncio.wait_for(self._woken.wait(), self._limits.tick_s)
        except TimeoutError:
            return
        self._woken.clear()


async def _repeat(work: Callable[[], Awaitable[bool]], pause: Callable[[], Awaitable[None]]) -> None:
    """Work for ever, with a pause where there is nothing to do or the database does not answer."""
    while True:
        try:
            busy = await work()
        except Exception as error:  # named, not quoted: it may hold what was asked for
            log.error("jobs: %s", type(error).__name__)
            busy = False
        if not busy:
            await pause()
