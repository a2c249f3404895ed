"""Stores jobs, executes them, sends their webhooks and deletes old ones. Independent of HTTP and Serve.

All state is in the database and the object store: after a crash a new replica continues.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from components.access.audit import AuditLog
from components.config import Config
from components.database import connect_database, open_service_database
from components.jobs.job import Job, JobUpdate, NewJob, State
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.jobs.webhook_queue import WebhookQueue
from components.jobs.webhook_settings import WebhookSettingsStore
from components.object_store import below, open_object_store
from components.stories.take_files import TakeFiles
from deploy.background import every, in_database_thread, repeat
from deploy.interfaces.protocols import Generator
from deploy.jobs.leases import LeaseKeeper
from deploy.jobs.webhook_sender import WebhookSender
from deploy.jobs.worker import JobWorker
from deploy.status.metrics import job_families
from deploy.status.replica_status import ReplicaReport
from deploy.watcher import Watcher

log = logging.getLogger(__name__)
#: Seconds between two deletions of old jobs.
_EXPIRY_INTERVAL_S = 60.0


class JobService:
    """`Jobs` over a `JobStore`, with its workers. Calls of the database and the object store run in threads.

    Raises:
        ConfigError: the file of the key that signs webhooks is not usable.
    """

    def __init__(self, config: Config, generator: Generator) -> None:
        limits = self._limits = config.serving.jobs
        serving = config.serving
        self._orphans_s = serving.orphans_s
        engine = open_service_database(serving)
        results = ResultFiles(below(serving.store, "jobs"))
        self._store = JobStore(engine, results, limits.max_queued, max_owned=limits.max_queued_per_owner)

        def queue(engine: sa.Engine) -> JobQueue:
            crashes, give_up_s = limits.max_crashes, limits.give_up_s
            return JobQueue(
                engine, results, limits.lease_s, limits.max_attempts, max_crashes=crashes, give_up_s=give_up_s
            )

        together = limits.concurrency
        pool = {"pool_size": together, "max_overflow": 0}
        leases = connect_database(serving.store, serving.database, serving.database_limits, **pool)
        self._leases = LeaseKeeper(queue(leases), limits.lease_s, together)
        takes = TakeFiles(open_object_store(serving.store))
        self._worker = JobWorker(queue(engine), generator, limits, takes.picture, self._leases)
        self._audit, self._audit_days = AuditLog(engine), serving.access.audit_days
        webhooks = WebhookQueue(engine, limits.webhook_attempts, limits.webhook_backoff_s)
        self._webhooks = WebhookSender(webhooks, WebhookSettingsStore(engine), limits)
        self._watcher = Watcher("jobs", self._store.revisions, self._limits.tick_s)
        self._submitted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the workers in the running event loop."""
        loops = [repeat("jobs", self._worker.run_next, self._wait_for_work) for _ in range(self._limits.concurrency)]
        loops.append(repeat("webhooks", self._webhooks.run_next, partial(self._webhooks.wait, self._limits.tick_s)))
        loops.append(repeat("jobs", self._expire, partial(asyncio.sleep, _EXPIRY_INTERVAL_S)))
        loops.append(every(self._orphans_s, "jobs", self._remove_orphans))
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    def check(self) -> None:
        """Raise if a worker has stopped."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError("a job worker has stopped")

    async def report(self, replica: str) -> ReplicaReport:
        """This replica's report: the backlog, or a problem if the database does not answer."""
        try:
            queue_status = await in_database_thread(self._store.queue_status)
        except SQLAlchemyError as error:
            log.error("jobs: the database does not answer: %s", type(error).__name__)
            return ReplicaReport("jobs", replica, problem="the database does not answer")
        concurrent = self._limits.workers * self._limits.concurrency
        backlog_s = queue_status.states.get(State.QUEUED, 0) * queue_status.mean_s / concurrent
        return ReplicaReport("jobs", replica, backlog_s=backlog_s, metrics=job_families(queue_status))

    async def close(self) -> None:
        """Stop the workers; their jobs go back into the queue at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._watcher.close()
        await self._webhooks.close()
        self._leases.close()

    async def submit(self, new: NewJob) -> tuple[Job, bool]:
        if new.webhook is not None:
            await in_database_thread(self._webhooks.check, new.webhook, new.owner)
        accepted = await in_database_thread(self._store.submit, new)
        self._submitted.set()
        return accepted

    async def find_existing(self, new: NewJob) -> Job | None:
        return await in_database_thread(self._store.known, new)

    async def get(self, identifier: str, owner: str = "") -> Job:
        return await in_database_thread(self._store.get, identifier, owner)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Job]:
        return await in_database_thread(self._store.page, limit, after, owner)

    async def result(self, identifier: str, owner: str = "") -> bytes | None:
        return await in_database_thread(self._store.result, identifier, owner)

    async def cancel(self, identifier: str, owner: str = "") -> Job | None:
        return await in_database_thread(self._store.cancel, identifier, owner)

    async def watch(self, identifier: str, revision: int, wait_s: float, owner: str = "") -> JobUpdate | None:
        read = partial(self._store.update_since, identifier, revision, owner)
        return await self._watcher.watch(identifier, revision, read, wait_s)

    async def _remove_orphans(self) -> bool:
        await asyncio.to_thread(self._store.remove_orphans)
        return False

    async def _expire(self) -> bool:
        await in_database_thread(self._store.expire, self._limits.keep_s)
        await in_database_thread(self._audit.expire, self._audit_days)
        return False

    async def _wait_for_work(self) -> None:
        """Wait until a job is submitted to this replica, at most a tick: other replicas accept jobs, too."""
        try:
            await asyncio.wait_for(self._submitted.wait(), self._limits.tick_s)
        except TimeoutError:
            return
        self._submitted.clear()
