"""How much a key may do: requests a minute, counted where they arrive, and pixel-steps a day, counted in the database.

Several gateways share what a key may spend. Requests each of them counts for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.store import spending

DAY_S = 86_400


class Bucket:
    """A token bucket that begins full: bursts of up to ``capacity``, and ``rate`` a second in the long run."""

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate, self._capacity = rate, capacity
        self._tokens, self._at = capacity, float("-inf")

    def take(self, now: float) -> float:
        """Take a token; or leave it, and say in how many seconds there will be one.

        Args:
            now: seconds of a clock that does not go back.
        """
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0


class Rates:
    """Requests a minute, key by key: as many at once as a minute has, and then as they come back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, key: str, per_minute: int) -> float:
        """Count a request; or refuse it, and say in how many seconds one will be taken."""
        bucket = self._buckets.setdefault(key, Bucket(per_minute / 60, per_minute))
        return bucket.take(self._clock())


@dataclass(frozen=True)
class Receipt:
    """So many pixel-steps were charged to a key on a day."""

    key: str
    day: int
    amount: int


class UsageLedger:
    """What keys spend, day by day.

    Args:
        engine: of a database that has `components.access.store.TABLES`.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def charge(self, key: str, amount: int, limit: int) -> Receipt | None:
        """Spend ``amount`` of this day's ``limit``, all or nothing; None if there is not so much left."""
        if amount > limit:
            return None
        day = self._day()
        enough = _of(key, day) & (spending.c.spent + amount <= limit)
        change = spending.update().where(enough).values(spent=spending.c.spent + amount)
        with self._engine.begin() as connection:
            if connection.execute(change).rowcount:
                return Receipt(key, day, amount)
        try:  # the day's first, if it is not spent
            with self._engine.begin() as connection:
                connection.execute(spending.insert().values(key=key, day=day, spent=amount))
        except IntegrityError:  # it was not the first, or another came first: the row is there now
            with self._engine.begin() as connection:
                return Receipt(key, day, amount) if connection.execute(change).rowcount else None
        return Receipt(key, day, amount)

    def give_back(self, receipt: Receipt, amount: int | None = None) -> None:
        """Take back what was charged, or ``amount`` of it."""
        back = receipt.amount if amount is None else amount
        change = spending.update().where(_of(receipt.key, receipt.day)).values(spent=spending.c.spent - back)
        with self._engine.begin() as connection:
            connection.execute(change)

    def spent(self) -> dict[str, int]:
        """What each key has spent on this day, of those that have spent anything."""
        query = sa.select(spending.c.key, spending.c.spent).where(spending.c.day == self._day())
        with self._engine.connect() as connection:
            return {row.key: row.spent for row in connection.execute(query)}

    def day_ends_in(self) -> float:
        """Seconds until the next day begins, and with it another limit."""
        return DAY_S - self._clock() % DAY_S

    def _day(self) -> int:
        return int(self._clock() // DAY_S)


def _of(key: str, day: int) -> sa.ColumnElement[bool]:
    return (spending.c.key == key) & (spending.c.day == day)
