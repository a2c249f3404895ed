"""The queue as workers use it: leases on jobs, renewed by heartbeats.

When a worker dies, its lease expires and another worker starts the job again. If the first worker was only slow, its
token is outdated and its result is dropped. A job is executed at least once and ends exactly once.

A job that a worker or a generator has died with is suspected of having killed it, and so are all jobs that were
processed beside it. A suspected job is processed alone, so that the next death is its own: no job fails because of
another one, and one that kills does so at most once beside others. A worker that finds its lease lost lives, and says
so: it was slow, or the database did not answer.

    queued ──► running ──► done, failed, cancelled
       ▲          │
       └──────────┘  the lease expired, or the worker released the job

The clocks of workers must differ by much less than a lease.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from components.jobs.job import JobProgress, Lease, LeaseStatus, Preview, State
from components.jobs.result_files import ResultFiles
from components.jobs.tables import count_job, drop_previews, ending, held, jobs, previews, refund_job, swap

#: Limits of the seconds before a job is tried again after a failure of the infrastructure.
_SHORTEST_DELAY_S, _LONGEST_DELAY_S = 1.0, 120.0
#: Seconds before a job is tried again with which a generator has died: until then it is known which ones are alive.
_SUSPECTED_DELAY_S = 5.0
#: Seconds for which a suspected job waits for the others to end, and for which no other is begun beside it.
_ALONE_S = 60.0
#: Key of PostgreSQL's advisory lock on the claims of suspected jobs.
_SUSPECTS_LOCK = 0x7265616C_6A6F6273


class JobQueue:
    """Claims jobs, renews their leases, and ends them.

    Args:
        engine: of a database that has the tables of `components.jobs.tables`.
        lease_s: seconds until the lease of a worker expires that does not renew it.
        max_attempts: how often a job may fail.
        clock: seconds since 1970.
        max_crashes: how many workers and generators may die with a job before it fails; 1 counts only those that
            processed no other job.
        give_up_s: seconds for which a job is postponed while the infrastructure fails.
    """

    def __init__(
        self,
        engine: sa.Engine,
        results: ResultFiles,
        lease_s: float,
        max_attempts: int,
        clock: Callable[[], float] = time.time,
        *,
        max_crashes: int = 2,
        give_up_s: float = 3600,
    ) -> None:
        self._engine, self._results, self._clock = engine, results, clock
        self._lease_s, self._max_attempts = lease_s, max_attempts
        self._max_crashes, self._give_up_s = max_crashes, give_up_s
        #: The first death may have been another job's.
        self._most_deaths = max(2, max_crashes)

    def claim(self) -> Lease | None:
        """Lease the next job: the oldest of the owner with the fewest running jobs. None if no job is available."""
        while True:
            now = self._clock()
            with self._engine.begin() as connection:
                row = connection.execute(self._claimable(now)).mappings().first()
                if row is not None and _suspected(row) and connection.dialect.name == "postgresql":
                    # Another claim may have begun one meanwhile.
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SUSPECTS_LOCK)))
                    row = connection.execute(self._claimable(now)).mappings().first()
                if row is None:
                    return None
                after = self._claimed(connection, row, now)
                taken = swap(connection, row, **after)
                if taken:
                    drop_previews(connection, row["id"])
                if taken and after["state"] is State.FAILED:
                    refund_job(connection, row["id"])
            if taken and after["state"] is State.RUNNING:
                submitted = row["owner"], row["key_id"] or "", row["request_id"] or ""
                return Lease(row["id"], after["token"], row["payload"], after["attempts"], *submitted)

    def renew(self, lease: Lease, progress: JobProgress | None = None, seen: Iterable[Preview] = ()) -> LeaseStatus:
        """Renew the lease, and store progress and previews."""
        steps = {} if progress is None else vars(progress) | {"trouble_since": None}
        renewed = jobs.update().where(held(lease))
        renewed = renewed.values(lease_until=self._clock() + self._lease_s, revision=jobs.c.revision + 1, **steps)
        with self._engine.begin() as connection:
            row = connection.execute(renewed.returning(jobs.c.revision, jobs.c.cancelling)).first()
            if row is None:
                return LeaseStatus.LOST
            for preview in seen:
                same = (previews.c.job == lease.job) & (previews.c.picture == preview.picture)
                connection.execute(previews.delete().where(same))
                facts = {"picture": preview.picture, "step": preview.step, "png": preview.png}
                connection.execute(previews.insert().values(job=lease.job, revision=row.revision, **facts))
        return LeaseStatus.CANCELLED if row.cancelling else LeaseStatus.HELD

    def lease_status(self, lease: Lease) -> LeaseStatus:
        """The state of the lease, without renewing it."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(jobs.c.cancelling).where(held(lease))).first()
        if row is None:
            return LeaseStatus.LOST
        return LeaseStatus.CANCELLED if row.cancelling else LeaseStatus.HELD

    def finish(self, lease: Lease, result: bytes) -> bool:
        """End a job with its result; False if the lease was lost or the job cancelled, and the result is dropped.

        Idempotent: it may be called again after a broken connection.
        """
        self._results.write(lease.job, lease.token, result)
        values = ending(State.DONE, self._clock())
        values |= {"step": jobs.c.total, "pictures_done": jobs.c.pictures}
        if self._end(lease, held(lease) & ~jobs.c.cancelling, values, counted=True) or self._finished(lease):
            return True
        self._results.discard(lease.job, lease.token)
        self.cancelled(lease)
        return False

    def cancelled(self, lease: Lease) -> bool:
        """End a job that its owner has cancelled; False if it was not cancelled or the lease was lost."""
        return self._end(lease, held(lease) & jobs.c.cancelling, ending(State.CANCELLED, self._clock()))

    def fail(self, lease: Lease, error: dict[str, Any], *, refunded: bool = True) -> bool:
        """End a job with a permanent error; False if the lease was lost."""
        values = ending(State.FAILED, self._clock()) | {"error": error}
        return self._end(lease, held(lease), values, refunded=refunded)

    def retry(self, lease: Lease, reason: str, delay_s: float = 0.0) -> bool:
        """Return a job to the queue after a failed attempt; the failure of the last attempt ends the job."""
        if lease.attempt >= self._max_attempts:
            return self.fail(lease, _given_up(lease.attempt, reason))
        return self._requeue(lease, lease.attempt, delay_s)

    def postpone(self, lease: Lease, reason: str) -> bool:
        """Return a job to the queue because the infrastructure has failed, without counting the attempt.

        Each wait is as long as the trouble has lasted, up to two minutes; after ``give_up_s`` the job fails.
        """
        now = self._clock()
        with self._engine.connect() as connection:
            since = connection.execute(sa.select(jobs.c.trouble_since).where(held(lease))).scalar()
        lasted_s = 0.0 if since is None else now - since
        if lasted_s > self._give_up_s:
            message = f"given up after {lasted_s:.0f} s: {reason}"
            return self.fail(lease, {"message": message, "param": None, "code": "gave_up"})
        delay_s = min(max(lasted_s, _SHORTEST_DELAY_S), _LONGEST_DELAY_S)
        return self._requeue(lease, lease.attempt - 1, delay_s, trouble_since=now if since is None else since)

    def suspect(self, lease: Lease, reason: str, *, certain: bool = False) -> bool:
        """Return a job to the queue with which a generator has died; one death too many, or a certain one, ends it."""
        with self._engine.connect() as connection:
            before = connection.execute(sa.select(jobs.c.crashes).where(held(lease))).scalar() or 0
            fatal = certain or self._fatal(connection, lease.job, before + 1)
        if fatal:
            return self.fail(lease, _killed(before + 1, reason))
        return self._requeue(lease, lease.attempt, _SUSPECTED_DELAY_S, crashes=before + 1)

    def survived(self, lease: Lease) -> bool:
        """Take back the death that the loss of a lease was counted as; False if there is none to take back."""
        lost = (jobs.c.id == lease.job) & (jobs.c.crashes > 0) & jobs.c.state.in_([State.QUEUED, State.RUNNING])
        lost &= jobs.c.token.is_(None) | (jobs.c.token != lease.token)
        with self._engine.begin() as connection:
            return connection.execute(jobs.update().where(lost).values(crashes=jobs.c.crashes - 1)).rowcount == 1

    def release(self, lease: Lease, delay_s: float = 0.0) -> bool:
        """Return a job to the queue without counting the attempt."""
        return self._requeue(lease, lease.attempt - 1, delay_s)

    def _finished(self, lease: Lease) -> bool:
        own = (jobs.c.id == lease.job) & (jobs.c.token == lease.token) & (jobs.c.state == State.DONE)
        with self._engine.connect() as connection:
            return connection.execute(sa.select(jobs.c.id).where(own)).first() is not None

    def _fatal(self, connection: sa.Connection, job: str, crashes: int) -> bool:
        """Whether a job fails after ``crashes`` deaths. All but the first were its own: it was processed alone."""
        if crashes >= self._most_deaths:
            return True
        accused = (jobs.c.id != job) & ((jobs.c.state == State.RUNNING) | _waits_suspected())
        return crashes >= self._max_crashes and connection.execute(sa.select(jobs.c.id).where(accused)).first() is None

    def _claimable(self, now: float) -> sa.Select[Any]:
        """The row of the next job that no worker holds, skipping rows that another transaction has locked.

        A suspected job is begun when no other one runs, or those that do have run for a minute beside it without harm;
        until then, and for its first minute, no other job is begun.
        """
        others = jobs.alias()
        runs = (others.c.state == State.RUNNING) & (others.c.lease_until >= now)
        running, tried = _exists(others, runs), _exists(others, runs & (others.c.crashes > 0))
        tried_lately = _exists(others, runs & (others.c.crashes > 0) & (others.c.not_before > now - _ALONE_S))
        lost = (others.c.state == State.RUNNING) & (others.c.lease_until < now)
        due = (others.c.state == State.QUEUED) & (others.c.crashes > 0) & (others.c.not_before <= now)
        suspects_wait = _exists(others, lost | due)

        busy = sa.select(jobs.c.owner, sa.func.count().label("running"))
        busy = busy.where(jobs.c.state == State.RUNNING, jobs.c.lease_until >= now).group_by(jobs.c.owner)
        busy_owners = busy.subquery()
        waits = (jobs.c.state == State.QUEUED) & (jobs.c.not_before <= now)
        abandoned = (jobs.c.state == State.RUNNING) & (jobs.c.lease_until < now)
        judged = (jobs.c.crashes >= self._most_deaths) | (
            jobs.c.token.is_(None) & (jobs.c.crashes >= self._max_crashes)
        )
        ends = waits & judged
        ends |= abandoned & (jobs.c.cancelling | (jobs.c.crashes + 1 >= self._most_deaths))
        since = sa.case((jobs.c.state == State.RUNNING, jobs.c.lease_until), else_=jobs.c.not_before)
        suspected = abandoned | (waits & (jobs.c.crashes > 0))
        suspected &= ~tried & (~running | (since <= now - _ALONE_S))
        unsuspected = waits & (jobs.c.crashes == 0) & ~suspects_wait & ~tried_lately
        query = sa.select(jobs).outerjoin(busy_owners, busy_owners.c.owner == jobs.c.owner)
        query = query.where(ends | suspected | unsuspected)
        query = query.order_by(sa.func.coalesce(busy_owners.c.running, 0), jobs.c.id).limit(1)
        return query.with_for_update(of=jobs, skip_locked=True)

    def _claimed(self, connection: sa.Connection, row: sa.RowMapping, now: float) -> dict[str, Any]:
        """The new values of a job that no worker holds.

        A death too many fails the job after another lease, in which a worker that lives can say so.
        """
        if row["cancelling"]:
            return ending(State.CANCELLED, now)
        died = row["state"] == State.RUNNING
        crashes = row["crashes"] + died
        if died and self._fatal(connection, row["id"], crashes):
            return _waiting(now + self._lease_s) | {"crashes": crashes, "token": None}
        if not died and (crashes >= self._most_deaths or (row["token"] is None and crashes >= self._max_crashes)):
            return ending(State.FAILED, now) | {"error": _killed(crashes, "the worker died")}
        if row["attempts"] >= self._max_attempts:
            return ending(State.FAILED, now) | {"error": _given_up(row["attempts"], "the worker died")}
        return {
            "state": State.RUNNING,
            "started": now if row["started"] is None else row["started"],
            "attempts": row["attempts"] + 1,
            "crashes": crashes,
            "token": secrets.token_hex(16),
            "not_before": now,
            "lease_until": now + self._lease_s,
            "step": 0,
            "pictures_done": 0,
        }

    def _requeue(self, lease: Lease, attempts: int, delay_s: float, **others: Any) -> bool:
        values = _waiting(self._clock() + delay_s) | {"attempts": attempts} | others
        return self._end(lease, held(lease) & ~jobs.c.cancelling, values) or self.cancelled(lease)

    def _end(
        self,
        lease: Lease,
        condition: sa.ColumnElement[bool],
        values: dict[str, Any],
        *,
        refunded: bool = False,
        counted: bool = False,
    ) -> bool:
        changed = jobs.update().where(condition).values(revision=jobs.c.revision + 1, **values)
        with self._engine.begin() as connection:
            ended = connection.execute(changed).rowcount == 1
            if ended:
                drop_previews(connection, lease.job)
            if ended and refunded:
                refund_job(connection, lease.job)
            if ended and counted:
                count_job(connection, lease.job, self._clock())
        return ended


def _exists(table: sa.FromClause, condition: sa.ColumnElement[bool]) -> sa.Exists:
    return sa.select(sa.literal(1)).select_from(table).where(condition).exists()


def _waits_suspected() -> sa.ColumnElement[bool]:
    return (jobs.c.state == State.QUEUED) & (jobs.c.crashes > 0)


def _suspected(row: sa.RowMapping) -> bool:
    """Whether a worker or a generator has died with a job that no worker holds."""
    return row["crashes"] > 0 or row["state"] == State.RUNNING


def _waiting(not_before: float) -> dict[str, Any]:
    """The values of a job that waits, also for another attempt."""
    return {"state": State.QUEUED, "not_before": not_before, "lease_until": None, "step": 0, "pictures_done": 0}


def _killed(crashes: int, reason: str) -> dict[str, Any]:
    message = f"given up because {crashes} {'process' if crashes == 1 else 'processes'} died with it: {reason}"
    return {"message": message, "param": None, "code": "process_killed"}


def _given_up(attempts: int, reason: str) -> dict[str, Any]:
    return {"message": f"given up after {attempts} attempts: {reason}", "param": None, "code": "attempts_exhausted"}
