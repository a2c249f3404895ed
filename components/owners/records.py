"""Which rows and files belong to an owner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from components.access.store import api_keys, audit_log, request_charges, request_rates, spending, usage
from components.characters.tables import candidates, characters
from components.history.store import generations
from components.jobs.tables import jobs, previews
from components.jobs.webhook_settings import webhook_settings
from components.stories.tables import panel_jobs, panels, requests, stories, takes


@dataclass(frozen=True)
class Records:
    """The rows of a kind.

    Args:
        condition: of an owner's rows.
        secret: columns that are not exported.
        foldered: each row's id is the name of a folder with its files.
        kept: the rows are not erased.
    """

    name: str
    table: sa.Table
    condition: sa.ColumnElement[bool]
    secret: tuple[str, ...] = ()
    foldered: bool = False
    kept: bool = False

    @property
    def identity(self) -> sa.Column[Any]:
        """The first column of the primary key."""
        return next(iter(self.table.primary_key.columns))


def owner_records(owner: str) -> list[Records]:
    """All kinds, in the order in which they are erased: what refers to other rows first."""
    keys = sa.select(api_keys.c.id).where(api_keys.c.owner == owner)
    own_stories = sa.select(stories.c.id).where(stories.c.owner == owner)
    own_jobs = sa.select(jobs.c.id).where(jobs.c.owner == owner)

    def of(table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.owner == owner

    return [
        Records("key_spending", spending, spending.c.key.in_(keys)),
        Records("key_rates", request_rates, request_rates.c.key.in_(keys)),
        Records("key_charges", request_charges, request_charges.c.key.in_(keys)),
        Records("keys", api_keys, of(api_keys), secret=("digest",)),
        Records("job_previews", previews, previews.c.job.in_(own_jobs), secret=("png",)),
        Records("jobs", jobs, of(jobs), secret=("token", "webhook_url", "webhook_origin")),
        Records("story_jobs", panel_jobs, of(panel_jobs)),
        Records("story_requests", requests, of(requests)),
        Records("takes", takes, of(takes)),
        Records("panels", panels, panels.c.story.in_(own_stories)),
        Records("stories", stories, of(stories), foldered=True),
        Records("generations", generations, of(generations), foldered=True),
        Records("candidates", candidates, of(candidates), foldered=True),
        Records("characters", characters, of(characters), foldered=True),
        Records("webhooks", webhook_settings, of(webhook_settings), secret=("secret", "previous_secret")),
        Records("usage", usage, of(usage)),
        Records("audit", audit_log, of(audit_log), kept=True),
    ]


def rows(engine: sa.Engine, records: Records, chunk: int = 500) -> Iterator[dict[str, Any]]:
    """The rows, without secrets, a chunk in memory at a time."""
    columns = [column for column in records.table.columns if column.name not in records.secret]
    order = list(records.table.primary_key.columns)
    query = sa.select(*columns).where(records.condition).order_by(*order)
    offset = 0
    while True:
        with engine.connect() as connection:
            found = connection.execute(query.limit(chunk).offset(offset)).mappings().all()
        yield from map(dict, found)
        if len(found) < chunk:
            return
        offset += chunk
