"""Webhooks that are to be sent. A job's end and the note that somebody is to be told of it are one change of its row.

Who takes one pushes its time into the future, so that it is sent again if its sender dies: receivers may be told twice,
and recognise it by the job's id.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from components.jobs.job import Job
from components.jobs.tables import jobs, read_job

#: Seconds that a sender may take before another tries.
_HOLD_S = 60.0


@dataclass(frozen=True)
class Message:
    """One attempt, counted from 1, at telling ``url`` how a job ended."""

    job: Job
    url: str
    attempt: int


class WebhookQueue:
    """Take what is due, and say what became of it.

    Args:
        attempts: at each webhook.
        backoff_s: before the second; each further wait is twice as long.
        clock: seconds since 1970.
    """

    def __init__(
        self, engine: sa.Engine, attempts: int, backoff_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine, self._attempts, self._backoff_s, self._clock = engine, attempts, backoff_s, clock

    def take(self) -> Message | None:
        """What is due for longest; None if nothing is."""
        due = (jobs.c.webhook_state == "pending") & (jobs.c.webhook_at <= self._clock())
        query = sa.select(jobs).where(due).order_by(jobs.c.webhook_at).limit(1).with_for_update(skip_locked=True)
        while True:
            with self._engine.begin() as connection:
                row = connection.execute(query).mappings().first()
                if row is None:
                    return None
                attempt = row["webhook_attempts"] + 1
                if attempt > self._attempts:
                    self._change(connection, row["id"], attempt - 1, state="failed", error="its sender died")
                    continue
                held = {"attempts": attempt, "at": self._clock() + _HOLD_S}
                if self._change(connection, row["id"], attempt - 1, **held):
                    return Message(read_job(row), row["webhook_url"], attempt)

    def delivered(self, message: Message) -> None:
        with self._engine.begin() as connection:
            self._change(connection, message.job.id, message.attempt, state="delivered", error=None)

    def failed(self, message: Message, error: str) -> None:
        """Try again later, or give up after the last attempt. ``error`` is shown to the job's owner."""
        again = {"at": self._clock() + self._backoff_s * 2 ** (message.attempt - 1)}
        after = again if message.attempt < self._attempts else {"state": "failed"}
        with self._engine.begin() as connection:
            self._change(connection, message.job.id, message.attempt, error=error, **after)

    def _change(self, connection: sa.Connection, job: str, attempt: int, **values: Any) -> bool:
        """Change what is pending, unless another attempt has been made since."""
        same = (jobs.c.id == job) & (jobs.c.webhook_state == "pending") & (jobs.c.webhook_attempts == attempt)
        changed = jobs.update().where(same).values({f"webhook_{name}": value for name, value in values.items()})
        return connection.execute(changed).rowcount == 1
