"""The tables of jobs, and conditional updates of their rows.

Rows are changed by optimistic concurrency: an update names the revision or the lease token that was read, and changes
nothing if that is outdated. No lock is held while a job runs.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from components.access.limits import ChargeRecord, refund
from components.access.store import spending, usage
from components.access.usage import Usage, UsageEntry, count_usage, usage_day
from components.jobs.job import Job, JobProgress, Lease, State, Webhook
from components.jobs.webhook_settings import webhook_settings

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
    # Input of the worker; null once the job has ended.
    sa.Column("payload", sa.JSON(none_as_null=True)),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("pictures_done", sa.Integer, nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    # A request with the same key and digest is the same job.
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("digest", sa.String(64), nullable=False),
    # A queued job is not claimed before the first time, a running one not before the second.
    sa.Column("not_before", sa.Float(53), nullable=False),
    sa.Column("lease_until", sa.Float(53)),
    # Token of the running attempt, or of the attempt that wrote the result.
    sa.Column("token", sa.String(32)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("cancelling", sa.Boolean, nullable=False),
    sa.Column("webhook_url", sa.Text),
    sa.Column("webhook_origin", sa.Text),
    sa.Column("webhook_state", sa.String(16)),
    sa.Column("webhook_attempts", sa.Integer, nullable=False),
    sa.Column("webhook_at", sa.Float(53)),
    sa.Column("webhook_error", sa.Text),
    # The part of the service that has yet to take the result.
    sa.Column("collector", sa.String(16)),
    # When the infrastructure began to fail this job; null again when a generator works on it.
    sa.Column("trouble_since", sa.Float(53)),
    # How many workers and generators have died while they worked on it.
    sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
    # The API key that was charged for the job, the day, and the pixel-steps; all null if there is nothing to refund.
    sa.Column("charged_key", sa.String(16)),
    sa.Column("charged_day", sa.Integer),
    sa.Column("charged_amount", sa.BigInteger),
    # The API key that submitted the job, and what is counted as usage when it is done; null in earlier releases' jobs.
    sa.Column("key_id", sa.String(16)),
    sa.Column("pixel_steps", sa.BigInteger),
    # The HTTP request that submitted the job, for logs.
    sa.Column("request_id", sa.String(128)),
    sa.UniqueConstraint("owner", "idempotency_key"),
    sa.Index("jobs_by_state", "state", "owner"),
    sa.Index("jobs_by_webhook", "webhook_state", "webhook_at"),
    sa.Index("jobs_by_collector", "collector", "state"),
    sa.Index("jobs_by_end", "ended"),
)
#: The latest preview of each picture of a running job.
previews = sa.Table(
    "job_previews",
    _metadata,
    sa.Column("job", sa.String(48), primary_key=True),
    sa.Column("picture", sa.Integer, primary_key=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("png", sa.LargeBinary, nullable=False),
)
#: With the spending and the usage of API keys: a job and its charge are one transaction.
TABLES = (jobs, previews, spending, usage, webhook_settings)


def swap(connection: sa.Connection, row: sa.RowMapping, **values: Any) -> bool:
    """Update the job that was read as ``row``; False, without a change, if its revision is outdated."""
    unchanged = (jobs.c.id == row["id"]) & (jobs.c.revision == row["revision"])
    changed = jobs.update().where(unchanged).values(revision=row["revision"] + 1, **values)
    return connection.execute(changed).rowcount == 1


def held(lease: Lease) -> sa.ColumnElement[bool]:
    """Condition: ``lease`` is the current lease of its job."""
    return (jobs.c.id == lease.job) & (jobs.c.token == lease.token) & (jobs.c.state == State.RUNNING)


def ending(state: State, now: float) -> dict[str, Any]:
    """The values of a job that ends in ``state``; its webhook, if it has one, becomes pending."""
    webhook_state = sa.case((jobs.c.webhook_url.is_not(None), "pending"), else_=None)
    return {
        "state": state,
        "ended": now,
        "payload": None,
        "lease_until": None,
        "cancelling": False,
        "webhook_state": webhook_state,
        "webhook_at": now,
    }


def refund_job(connection: sa.Connection, job: str) -> None:
    """Refund what a job was charged; a second call does nothing."""
    charged = (jobs.c.charged_key, jobs.c.charged_day, jobs.c.charged_amount)
    query = sa.select(*charged).where(jobs.c.id == job, jobs.c.charged_key.is_not(None)).with_for_update()
    row = connection.execute(query).first()
    if row is not None:
        refund(connection, ChargeRecord(*row))
        connection.execute(jobs.update().where(jobs.c.id == job).values({column: None for column in charged}))


def count_job(connection: sa.Connection, job: str, now: float) -> None:
    """Count the images of a job that is done as usage of its owner, within the transaction that ends it."""
    columns = (jobs.c.owner, jobs.c.key_id, jobs.c.pixel_steps, jobs.c.pictures)
    row = connection.execute(sa.select(*columns).where(jobs.c.id == job)).one()
    used = Usage(pixel_steps=row.pixel_steps or 0, images=row.pictures)
    count_usage(connection, UsageEntry(row.owner, row.key_id or "", usage_day(now), used))


def drop_previews(connection: sa.Connection, job: str) -> None:
    connection.execute(previews.delete().where(previews.c.job == job))


def read_job(row: sa.RowMapping) -> Job:
    url, told = row["webhook_url"], row["webhook_state"]
    webhook = url and Webhook(url, told or "waiting", row["webhook_attempts"], row["webhook_error"])
    progress = JobProgress(*(row[name] for name in ("step", "total", "pictures_done", "pictures")))
    same = ("id", "owner", "revision", "created", "started", "ended", "attempts", "cancelling", "error")
    return Job(state=State(row["state"]), progress=progress, webhook=webhook, **{name: row[name] for name in same})
