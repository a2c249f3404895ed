"""Jobs as their owners use them: submit, read, cancel, delete; and the removal of expired jobs.

A job is a row, its result a file. An accepted job is durable. Several processes may use one store at the same time,
and with a database server and a shared directory several machines. The workers' side is `components.jobs.queue`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.limits import ChargeRecord, charge, quota_error
from components.errors import KeyReusedError
from components.jobs.job import (
    Job,
    JobNotFoundError,
    JobUpdate,
    NewJob,
    Preview,
    QueueBusyError,
    QueueFullError,
    QueueStatus,
    State,
)
from components.jobs.result_files import ResultFiles
from components.jobs.tables import drop_previews, ending, jobs, previews, read_job, refund_job, swap
from components.jobs.webhook_settings import origin_of

#: The form of ids; they sort by age.
ID = r"^job-[0-9a-f]{28}$"
#: Values in one statement; databases have a limit.
_MOST_PARAMETERS = 500
#: What is read of a job that is shown: not its input, which may hold a picture of megabytes.
_SHOWN = [column for column in jobs.c if column is not jobs.c.payload]
#: Jobs that `QueueStatus.mean_s` is the mean of.
_RECENT = 32


class JobStore:
    """Every method that takes an id raises JobNotFoundError if its owner has no such job.

    Args:
        engine: of a database that has the tables of `components.jobs.tables`.
        max_queued: limit of queued jobs.
        clock: seconds since 1970.
        max_owned: limit of queued jobs of one owner; it does not apply to the owner ``""``.
    """

    def __init__(
        self,
        engine: sa.Engine,
        results: ResultFiles,
        max_queued: int,
        clock: Callable[[], float] = time.time,
        max_owned: int | None = None,
    ) -> None:
        self._engine, self._results, self._clock = engine, results, clock
        self._max_queued, self._max_owned = max_queued, max_queued if max_owned is None else max_owned

    def submit(self, new: NewJob) -> tuple[Job, bool]:
        """Add a job and return it with True; or, for a repeated request, return the existing job with False.

        The job is there if and only if it was charged.

        Raises:
            QuotaError: it costs more than what the key has left today.
            QueueFullError: the owner has as many queued jobs as allowed.
            QueueBusyError: all owners together have as many queued jobs as allowed.
            KeyReusedError: the key was used for another request.
        """
        known = self.known(new)
        if known is not None:
            return known, False
        now = self._clock()
        identifier = f"job-{int(now * 1e9):016x}{secrets.token_hex(6)}"
        try:
            with self._engine.begin() as connection:
                record = None if new.cost is None else charge(connection, new.cost, now)
                if new.cost is not None and record is None:
                    raise quota_error(new.cost, now)
                accepted = connection.execute(self._insert(identifier, new, now, record)).first()
                if accepted is None:
                    raise self._refusal(connection, new.owner)
        except IntegrityError:  # the same key at the same time
            known = self.known(new)
            if known is None:
                raise
            return known, False
        return self.get(identifier, new.owner), True

    def known(self, new: NewJob) -> Job | None:
        """The job of an earlier request with the same key and digest, if there is one.

        Raises:
            KeyReusedError: the key was used for another request.
        """
        if new.key is None:
            return None
        query = sa.select(*_SHOWN).where(jobs.c.owner == new.owner, jobs.c.idempotency_key == new.key)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is not None and row["digest"] != new.digest:
            raise KeyReusedError("this key was used for another request; use a new one")
        return None if row is None else read_job(row)

    def get(self, identifier: str, owner: str | None = "") -> Job:
        """The job of ``owner``; of any owner if it is None."""
        with self._engine.connect() as connection:
            return read_job(self._row(connection, identifier, owner))

    def page(
        self, limit: int = 20, after: str | None = None, owner: str | None = "", state: State | None = None
    ) -> list[Job]:
        """Up to ``limit`` jobs, newest first, older than the id ``after``, which may be deleted.

        Args:
            owner: None for the jobs of all owners.
            state: by default any.

        Raises:
            JobNotFoundError: ``after`` is not an id.
        """
        query = sa.select(*_SHOWN).order_by(jobs.c.id.desc()).limit(limit)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        if state is not None:
            query = query.where(jobs.c.state == state)
        if after is not None:
            query = query.where(jobs.c.id < _checked(after))
        with self._engine.connect() as connection:
            return [read_job(row) for row in connection.execute(query).mappings()]

    def update_since(self, identifier: str, revision: int, owner: str = "") -> JobUpdate | None:
        """The job with its previews since ``revision``; None if it has not changed."""
        newer = sa.select(previews).where(previews.c.job == identifier, previews.c.revision > revision)
        with self._engine.connect() as connection:
            row = self._row(connection, identifier, owner)
            if row["revision"] <= revision:
                return None
            found = connection.execute(newer.order_by(previews.c.revision, previews.c.picture)).mappings()
            shown = [Preview(seen["picture"], seen["step"], seen["png"], seen["revision"]) for seen in found]
        return JobUpdate(read_job(row), shown)

    def revisions(self, identifiers: Sequence[str]) -> dict[str, int]:
        """The revision of each of these jobs that exists, of whatever owner."""
        found: dict[str, int] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(identifiers), _MOST_PARAMETERS):
                some = identifiers[start : start + _MOST_PARAMETERS]
                query = sa.select(jobs.c.id, jobs.c.revision).where(jobs.c.id.in_(some))
                found |= {row.id: row.revision for row in connection.execute(query)}
        return found

    def result(self, identifier: str, owner: str = "") -> bytes | None:
        """The job's result; None if it is not done."""
        with self._engine.connect() as connection:
            row = self._row(connection, identifier, owner)
        return self._results.read(row["id"], row["token"]) if row["state"] == State.DONE else None

    def cancel(self, identifier: str, owner: str = "") -> Job | None:
        """Cancel a job: at once if queued, at its next step if running. One that has ended is deleted (None).

        A job that was never started is refunded.
        """
        while True:
            with self._engine.begin() as connection:
                row = self._row(connection, identifier, owner)
                state = State(row["state"])
                if state.final:
                    unchanged = (jobs.c.id == row["id"]) & (jobs.c.revision == row["revision"])
                    done = connection.execute(jobs.delete().where(unchanged)).rowcount == 1
                elif state is State.QUEUED:
                    done = swap(connection, row, **ending(State.CANCELLED, self._clock()))
                    drop_previews(connection, row["id"])
                    if done and row["started"] is None:
                        refund_job(connection, row["id"])
                else:
                    done = row["cancelling"] or swap(connection, row, cancelling=True)
            if done and state.final:
                self._discard(row)
                return None
            if done:
                return self.get(identifier, owner)

    def queue_status(self) -> QueueStatus:
        """Statistics of the jobs of all owners."""
        by_state = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
        oldest = sa.select(sa.func.min(jobs.c.created)).where(jobs.c.state == State.QUEUED)
        recent = sa.select(jobs.c.started, jobs.c.ended).where(jobs.c.state == State.DONE)
        recent = recent.order_by(jobs.c.id.desc()).limit(_RECENT)
        with self._engine.connect() as connection:
            states = {State(state): count for state, count in connection.execute(by_state)}
            created = connection.execute(oldest).scalar()
            took = [ended - started for started, ended in connection.execute(recent)]
        waited_s = 0.0 if created is None else max(0.0, self._clock() - created)
        return QueueStatus(states, waited_s, sum(took) / max(1, len(took)))

    def sweep(self, keep_s: float) -> int:
        """Delete jobs that ended more than ``keep_s`` seconds ago and orphaned files; returns how many."""
        return self.expire(keep_s) + self.remove_orphans()

    def expire(self, keep_s: float) -> int:
        """Delete jobs that ended more than ``keep_s`` seconds ago; returns how many.

        A job whose result has not been collected yet stays.
        """
        old = sa.select(jobs).where(jobs.c.ended < self._clock() - keep_s, jobs.c.collector.is_(None))
        with self._engine.begin() as connection:
            rows = connection.execute(old).mappings().all()
            connection.execute(jobs.delete().where(jobs.c.id.in_([row["id"] for row in rows])))
        for row in rows:
            self._discard(row)
        return len(rows)

    def remove_orphans(self) -> int:
        """Remove results that no job names; returns how many. Lists all results."""
        return self._results.sweep(self._tokens())

    def _insert(self, identifier: str, new: NewJob, now: float, record: ChargeRecord | None) -> sa.Executable:
        """One statement that inserts the job if the queue is not full, and then returns its id.

        On a database server, concurrent transactions do not see each other and may exceed the limit.
        """
        values: dict[str, Any] = {
            "id": identifier,
            "owner": new.owner,
            "state": State.QUEUED,
            "revision": 1,
            "created": now,
            "payload": new.payload,
            "step": 0,
            "total": new.steps,
            "pictures_done": 0,
            "pictures": new.pictures,
            "idempotency_key": new.key,
            "digest": new.digest,
            "not_before": now,
            "attempts": 0,
            "cancelling": False,
            "crashes": 0,
            "webhook_url": new.webhook,
            "webhook_origin": None if new.webhook is None else origin_of(new.webhook),
            "webhook_attempts": 0,
            "collector": new.collector,
            "charged_key": record and record.key,
            "charged_day": record and record.day,
            "charged_amount": record and record.amount,
            "key_id": new.key_id,
            "pixel_steps": new.pixel_steps,
            "request_id": new.request_id,
        }
        row = sa.select(*(sa.literal(value, jobs.c[name].type) for name, value in values.items()))
        row = row.where(_queued().scalar_subquery() < self._max_queued)
        if new.owner:
            row = row.where(_queued(new.owner).scalar_subquery() < self._max_owned)
        return jobs.insert().from_select(list(values), row).returning(jobs.c.id)

    def _refusal(self, connection: sa.Connection, owner: str) -> QueueFullError | QueueBusyError:
        own = connection.execute(_queued(owner)).scalar_one()
        if not owner or own >= min(self._max_owned, self._max_queued):
            return QueueFullError("too many jobs are waiting; try again later")
        return QueueBusyError("too many jobs of others are waiting; try again later")

    def _row(self, connection: sa.Connection, identifier: str, owner: str | None) -> sa.RowMapping:
        query = sa.select(*_SHOWN).where(jobs.c.id == _checked(identifier))
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        row = connection.execute(query).mappings().first()
        if row is None:
            raise JobNotFoundError("there is no such job; list the existing ones")
        return row

    def _tokens(self) -> set[tuple[str, str]]:
        """The attempts (job, token) that have a result, or may still write one."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(jobs.c.id, jobs.c.token).where(jobs.c.token.is_not(None)))
            return {(row.id, row.token) for row in rows}

    def _discard(self, row: sa.RowMapping) -> None:
        if row["token"] is not None:
            self._results.discard(row["id"], row["token"])


def _queued(owner: str | None = None) -> sa.Select[int]:
    """The number of queued jobs, of one owner or of all."""
    count = sa.select(sa.func.count()).where(jobs.c.state == State.QUEUED)
    return count if owner is None else count.where(jobs.c.owner == owner)


def _checked(identifier: str) -> str:
    if not re.fullmatch(ID, identifier):
        raise JobNotFoundError("there is no such job; list the existing ones")
    return identifier
