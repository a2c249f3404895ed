"""Storage quotas of owners, checked in the transaction that writes the row."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from components.characters.tables import characters
from components.config import StorageQuotas
from components.errors import RealCustomError

#: First key of PostgreSQL's advisory locks of owners; the second is a hash of the owner.
_LOCK_KEY = 0x7263_7175


class StorageQuotaError(RealCustomError):
    """An owner would store more than a quota allows."""


@dataclass(frozen=True)
class StorageUsage:
    """What an owner's characters take: their number, that of their pictures, and the bytes of pictures and masks."""

    characters: int
    pictures: int
    bytes: int


def storage_usage(connection: sa.Connection, owner: str) -> StorageUsage:
    """The sums over an owner's rows."""
    total = (sa.func.coalesce(sa.func.sum(column), 0) for column in (characters.c.pictures, characters.c.bytes))
    query = sa.select(sa.func.count(), *total).select_from(characters).where(characters.c.owner == owner)
    return StorageUsage(*map(int, connection.execute(query).one()))


def lock_owner(connection: sa.Connection, owner: str) -> None:
    """Let transactions that write rows of one owner follow each other; SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY, sa.func.hashtext(owner))))


def check_quotas(before: StorageUsage, after: StorageUsage, quotas: StorageQuotas) -> None:
    """Check what a change adds; what takes less than before, or the same, is always allowed.

    Raises:
        StorageQuotaError: the message names the quota, what is used and what can be done.
    """
    for name, most in quotas.model_dump().items():
        what = name.removeprefix("max_")
        used, wanted = getattr(before, what), getattr(after, what)
        if wanted > max(used, most):
            raise StorageQuotaError(
                f"{what}: {used:,} of {most:,} are used, and this needs {wanted - used:,} more; delete characters or "
                f"pictures, or ask the operator to raise serving.quotas.{name}"
            )
