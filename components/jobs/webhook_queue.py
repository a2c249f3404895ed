"""The queue of pending webhooks. The end of a job and its pending webhook are one update of the job's row.

A sender that claims a webhook moves its due time into the future, so that it is sent again if the sender dies. Delivery
is at least once; receivers recognise a repetition by the job's id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from components.jobs.job import Job
from components.jobs.tables import jobs, read_job
from components.jobs.webhook_settings import origin_of

#: Seconds after which another sender may claim the same webhook.
_CLAIM_S = 60.0


@dataclass(frozen=True)
class Message:
    """One attempt, counted from 1, to deliver a job's result to ``url``."""

    job: Job
    url: str
    attempt: int

    @property
    def origin(self) -> str:
        return origin_of(self.url) or ""


class WebhookQueue:
    """Claims due webhooks and records the outcome.

    Args:
        attempts: limit of attempts for each webhook.
        backoff_s: seconds before the second attempt; doubled before each further one.
        clock: seconds since 1970.
    """

    def __init__(
        self, engine: sa.Engine, attempts: int, backoff_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine, self._attempts, self._backoff_s, self._clock = engine, attempts, backoff_s, clock

    def claim(self, busy: Collection[str] = (), busy_owners: Collection[str] = ()) -> Message | None:
        """Claim the webhook that is due for longest; None if none is due.

        Args:
            busy: origins that are passed over.
            busy_owners: owners that are passed over.
        """
        due = (jobs.c.webhook_state == "pending") & (jobs.c.webhook_at <= self._clock())
        if busy:  # an earlier release stored no origin
            due &= jobs.c.webhook_origin.is_(None) | jobs.c.webhook_origin.not_in(busy)
        if busy_owners:
            due &= jobs.c.owner.not_in(busy_owners)
        query = sa.select(jobs).where(due).order_by(jobs.c.webhook_at).limit(1).with_for_update(skip_locked=True)
        while True:
            with self._engine.begin() as connection:
                row = connection.execute(query).mappings().first()
                if row is None:
                    return None
                attempt = row["webhook_attempts"] + 1
                if attempt > self._attempts:
                    self._change(connection, row["id"], attempt - 1, state="failed", error="the sender died")
                    continue
                held = {"attempts": attempt, "at": self._clock() + _CLAIM_S}
                if self._change(connection, row["id"], attempt - 1, **held):
                    return Message(read_job(row), row["webhook_url"], attempt)

    def delivered(self, message: Message) -> None:
        with self._engine.begin() as connection:
            self._change(connection, message.job.id, message.attempt, state="delivered", error=None)

    def failed(self, message: Message, error: str) -> None:
        """Schedule the next attempt, or end after the last one. ``error`` is shown to the job's owner."""
        again = {"at": self._clock() + self._backoff_s * 2 ** (message.attempt - 1)}
        after = again if message.attempt < self._attempts else {"state": "failed"}
        with self._engine.begin() as connection:
            self._change(connection, message.job.id, message.attempt, error=error, **after)

    def _change(self, connection: sa.Connection, job: str, attempt: int, **values: Any) -> bool:
        """Update a pending webhook, unless another attempt was started."""
        same = (jobs.c.id == job) & (jobs.c.webhook_state == "pending") & (jobs.c.webhook_attempts == attempt)
        changed = jobs.update().where(same).values({f"webhook_{name}": value for name, value in values.items()})
        return connection.execute(changed).rowcount == 1
