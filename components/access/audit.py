"""The audit log: who did what, when, with which outcome. Entries are added and expire; nothing changes them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from components.access.limits import DAY_S
from components.access.store import audit_log


def _new_id() -> str:
    return f"audit-{time.time_ns():016x}{secrets.token_hex(6)}"


@dataclass(frozen=True)
class AuditEntry:
    """An action. It has ids only: no prompts, names or images.

    Args:
        owner, key: of the key that was used; both are empty for commands on the machine of the database.
        action: method and route, as ``DELETE /v1/characters/{identifier}``, or a command.
        resource: ids of the job, character, story or key that it was done to.
        outcome: the HTTP status, or ``done``.
        request: id of the HTTP request.
    """

    owner: str
    key: str
    action: str
    resource: str = ""
    outcome: str = "done"
    request: str = ""
    #: Seconds since 1970.
    at: float = field(default_factory=time.time)
    #: Sorts by age.
    id: str = field(default_factory=_new_id)


class AuditLog:
    """Adds and reads entries.

    Args:
        engine: of the service's database.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def add(self, entries: Iterable[AuditEntry]) -> None:
        with self._engine.begin() as connection:
            connection.execute(audit_log.insert(), [vars(entry) for entry in entries])

    def page(
        self, limit: int = 100, after: str | None = None, owner: str | None = None, key: str | None = None
    ) -> list[AuditEntry]:
        """Up to ``limit`` entries, newest first, older than the id ``after``; of one owner or key, or of all."""
        query = sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(audit_log.c.id < after)
        if owner is not None:
            query = query.where(audit_log.c.owner == owner)
        if key is not None:
            query = query.where(audit_log.c.key == key)
        with self._engine.connect() as connection:
            return [AuditEntry(**row) for row in connection.execute(query).mappings()]

    def expire(self, days: float) -> int:
        """Delete entries older than ``days`` days; returns how many."""
        old = audit_log.c.at < self._clock() - days * DAY_S
        with self._engine.begin() as connection:
            return connection.execute(audit_log.delete().where(old)).rowcount
