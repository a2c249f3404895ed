"""The rows of jobs, and the conditional updates that all of their changes are.

Nobody holds a lock while a job runs. Who changes a job names what it has read of it, its revision or its lease's token,
and a change that names something outdated changes nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from components.jobs.job import Job, JobProgress, Lease, State, Webhook

_metadata = sa.MetaData()
jobs = sa.Table(
    "jobs",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("started", sa.Float(53)),
    sa.Column("ended", sa.Float(53)),
    # What is to be done; gone once it is.
    sa.Column("payload", sa.JSON(none_as_null=True)),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("pictures_done", sa.Integer, nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    # The same key is the same job, if the request's digest is the same.
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("digest", sa.String(64), nullable=False),
    # Nobody takes a queued job before this time, and nobody else a running one before the other.
    sa.Column("not_before", sa.Float(53), nullable=False),
    sa.Column("lease_until", sa.Float(53)),
    # Of the attempt that runs, or whose result is the job's.
    sa.Column("token", sa.String(32)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("cancelling", sa.Boolean, nullable=False),
    sa.Column("webhook_url", sa.Text),
    sa.Column("webhook_state", sa.String(16)),
    sa.Column("webhook_attempts", sa.Integer, nullable=False),
    sa.Column("webhook_at", sa.Float(53)),
    sa.Column("webhook_error", sa.Text),
    # The part of the service that has yet to take the result.
    sa.Column("collector", sa.String(16)),
    sa.UniqueConstraint("owner", "idempotency_key"),
    sa.Index("jobs_by_state", "state", "owner"),
    sa.Index("jobs_by_webhook", "webhook_state", "webhook_at"),
    sa.Index("jobs_by_collector", "collector", "state"),
)
#: The newest of each picture in the making.
previews = sa.Table(
    "job_previews",
    _metadata,
    sa.Column("job", sa.String(48), primary_key=True),
    sa.Column("picture", sa.Integer, primary_key=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("png", sa.LargeBinary, nullable=False),
)
TABLES = (jobs, previews)


def swap(connection: sa.Connection, row: sa.RowMapping, **values: Any) -> bool:
    """Change the job that was read as ``row``; False, and no change, if it has changed since."""
    unchanged = (jobs.c.id == row["id"]) & (jobs.c.revision == row["revision"])
    changed = jobs.update().where(unchanged).values(revision=row["revision"] + 1, **values)
    return connection.execute(changed).rowcount == 1


def held(lease: Lease) -> sa.ColumnElement[bool]:
    """Whether the lease's attempt still is the job's."""
    return (jobs.c.id == lease.job) & (jobs.c.token == lease.token) & (jobs.c.state == State.RUNNING)


def ending(state: State, now: float) -> dict[str, Any]:
    """The values of a job that ends in ``state``; whoever wants to be told will be."""
    told = sa.case((jobs.c.webhook_url.is_not(None), "pending"), else_=None)
    return {
        "state": state,
        "ended": now,
        "payload": None,
        "lease_until": None,
        "cancelling": False,
        "webhook_state": told,
        "webhook_at": now,
    }


def drop_previews(connection: sa.Connection, job: str) -> None:
    connection.execute(previews.delete().where(previews.c.job == job))


def read_job(row: sa.RowMapping) -> Job:
    url, told = row["webhook_url"], row["webhook_state"]
    webhook = url and Webhook(url, told or "waiting", row["webhook_attempts"], row["webhook_error"])
    progress = JobProgress(*(row[name] for name in ("step", "total", "pictures_done", "pictures")))
    same = ("id", "owner", "revision", "created", "started", "ended", "attempts", "cancelling", "error")
    return Job(state=State(row["state"]), progress=progress, webhook=webhook, **{name: row[name] for name in same})
