"""What owners have used, by day: requests, pixel-steps and images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.limits import DAY_S
from components.access.store import usage

_COUNTED = ("requests", "pixel_steps", "images")


@dataclass(frozen=True)
class Usage:
    """Requests, and what was generated: images, and the sum of their width x height x steps."""

    requests: int = 0
    pixel_steps: int = 0
    images: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in _COUNTED))


@dataclass(frozen=True)
class UsageEntry:
    """What ``owner`` used with ``key`` on a day (UTC, counted from 1970); the key is empty if API keys are off."""

    owner: str
    key: str
    day: int
    used: Usage


class UsageStore:
    """Counts and reports usage.

    Args:
        engine: of a database that has `components.access.store.TABLES`.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def add(self, entries: Iterable[UsageEntry]) -> None:
        """Add entries to the counts, in one transaction."""
        sums: dict[tuple[str, int, str], Usage] = {}
        for entry in entries:
            place = entry.owner, entry.day, entry.key
            sums[place] = sums.get(place, Usage()) + entry.used
        with self._engine.begin() as connection:
            for (owner, day, key), used in sorted(sums.items(), key=lambda item: item[0]):
                count_usage(connection, UsageEntry(owner, key, day, used))

    def days(self, days: int, owner: str | None = None) -> list[UsageEntry]:
        """The entries of the last ``days`` days, newest first: of one owner, or of all; of an owner's keys together."""
        since = usage_day(self._clock()) - days + 1
        sums = [sa.cast(sa.func.sum(usage.c[name]), sa.BigInteger).label(name) for name in _COUNTED]
        query = sa.select(usage.c.owner, usage.c.day, *sums).where(usage.c.day >= since)
        if owner is not None:
            query = query.where(usage.c.owner == owner)
        query = query.group_by(usage.c.owner, usage.c.day).order_by(usage.c.day.desc(), usage.c.owner)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [UsageEntry(row.owner, "", row.day, Usage(row.requests, row.pixel_steps, row.images)) for row in rows]


def count_usage(connection: sa.Connection, entry: UsageEntry) -> None:
    """Add an entry to the counts within a transaction."""
    same = (usage.c.owner == entry.owner) & (usage.c.day == entry.day) & (usage.c.key == entry.key)
    added = {name: usage.c[name] + getattr(entry.used, name) for name in _COUNTED}
    change = usage.update().where(same).values(added)
    if connection.execute(change).rowcount:
        return
    try:  # the first of the day
        with connection.begin_nested():
            row = {"owner": entry.owner, "day": entry.day, "key": entry.key}
            connection.execute(usage.insert().values(row | vars(entry.used)))
    except IntegrityError:  # the row exists
        connection.execute(change)


def usage_day(now: float) -> int:
    """The day (UTC, counted from 1970) of a time in seconds since 1970."""
    return int(now // DAY_S)
