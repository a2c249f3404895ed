"""Limits of API keys: requests a minute, counted in each gateway, and pixel-steps a day, counted in the database.

All gateways share a key's daily pixel-steps. Each gateway counts requests for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.store import spending

DAY_S = 86_400


class TokenBucket:
    """A token bucket, initially full: bursts of up to ``capacity`` tokens, refilled with ``rate`` a second."""

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._tokens, self._at = capacity, float("-inf")

    def acquire(self, now: float) -> float:
        """Take a token and return 0; or return the seconds until one is available.

        Args:
            now: seconds of a monotonic clock.
        """
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0


class RateLimiter:
    """Limits requests a minute, with a token bucket for each key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def acquire(self, key: str, per_minute: int) -> float:
        """Count a request and return 0; or return the seconds until a request is allowed."""
        bucket = self._buckets.setdefault(key, TokenBucket(per_minute / 60, per_minute))
        return bucket.acquire(self._clock())


@dataclass(frozen=True)
class ChargeRecord:
    """A charge of pixel-steps to a key on a day."""

    key: str
    day: int
    amount: int


class UsageLedger:
    """Pixel-steps that keys have spent, by day.

    Args:
        engine: of a database that has `components.access.store.TABLES`.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def charge(self, key: str, amount: int, limit: int) -> ChargeRecord | None:
        """Charge ``amount`` to the key's ``limit`` of today; None, without a charge, if it exceeds the rest."""
        if amount > limit:
            return None
        day = self._day()
        enough = _of(key, day) & (spending.c.spent + amount <= limit)
        change = spending.update().where(enough).values(spent=spending.c.spent + amount)
        with self._engine.begin() as connection:
            if connection.execute(change).rowcount:
                return ChargeRecord(key, day, amount)
        try:  # the first charge of the day
            with self._engine.begin() as connection:
                connection.execute(spending.insert().values(key=key, day=day, spent=amount))
        except IntegrityError:  # the row exists
            with self._engine.begin() as connection:
                return ChargeRecord(key, day, amount) if connection.execute(change).rowcount else None
        return ChargeRecord(key, day, amount)

    def refund(self, record: ChargeRecord, amount: int | None = None) -> None:
        """Undo a charge, or ``amount`` of it."""
        back = record.amount if amount is None else amount
        change = spending.update().where(_of(record.key, record.day)).values(spent=spending.c.spent - back)
        with self._engine.begin() as connection:
            connection.execute(change)

    def spent(self) -> dict[str, int]:
        """Pixel-steps of today by key, without keys that have spent none."""
        query = sa.select(spending.c.key, spending.c.spent).where(spending.c.day == self._day())
        with self._engine.connect() as connection:
            return {row.key: row.spent for row in connection.execute(query)}

    def day_ends_in(self) -> float:
        """Seconds until the daily limits are reset."""
        return DAY_S - self._clock() % DAY_S

    def _day(self) -> int:
        return int(self._clock() // DAY_S)


def _of(key: str, day: int) -> sa.ColumnElement[bool]:
    return (spending.c.key == key) & (spending.c.day == day)
