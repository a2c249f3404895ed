"""The daily limits of API keys: pixel-steps, charged in the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.store import request_charges, spending
from components.errors import KeyReusedError, RealCustomError

DAY_S = 86_400
#: How often a request may be sent with one idempotency key, and for how long its charge is remembered.
_MAX_USES = 10
_REMEMBERED_S = DAY_S


class QuotaError(RealCustomError):
    """The key has fewer pixel-steps left today than a request costs; the limit is reset after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Cost:
    """What a request costs: ``amount`` pixel-steps, of the ``limit`` that ``key`` has a day."""

    key: str
    amount: int
    limit: int


@dataclass(frozen=True)
class RequestId:
    """The idempotency key of a request, and the digest that tells another request with the same key."""

    key: str
    digest: str


@dataclass(frozen=True)
class ChargeRecord:
    """A charge of pixel-steps to a key on a day; ``request`` is the idempotency key of the request, if it has one."""

    key: str
    day: int
    amount: int
    request: str | None = None


class UsageLedger:
    """Pixel-steps that keys have spent, by day.

    Args:
        engine: of a database that has `components.access.store.TABLES`.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def charge(self, key: str, amount: int, limit: int, request: RequestId | None = None) -> ChargeRecord | None:
        """Charge ``amount`` to the key's ``limit`` of today; None, without a charge, if it exceeds the rest.

        A ``request`` that was charged within the last day, and not refunded, is not charged again.

        Raises:
            KeyReusedError: the idempotency key was used for another request, or too often.
        """
        cost = Cost(key, amount, limit)
        if request is None:
            with self._engine.begin() as connection:
                return charge(connection, cost, self._clock())
        try:
            return self._charge_once(cost, request)
        except IntegrityError:  # the same request at the same time
            return self._charge_once(cost, request)

    def refund(self, record: ChargeRecord, amount: int | None = None) -> None:
        """Undo a charge, or ``amount`` of it. One of several requests with the same idempotency key keeps it."""
        with self._engine.begin() as connection:
            if record.request is None or self._is_last(connection, record):
                refund(connection, record, amount)

    def spent(self) -> dict[str, int]:
        """Pixel-steps of today by key, without keys that have spent none."""
        query = sa.select(spending.c.key, spending.c.spent).where(spending.c.day == _day(self._clock()))
        with self._engine.connect() as connection:
            return {row.key: row.spent for row in connection.execute(query.where(spending.c.spent != 0))}

    def spent_by(self, key: str) -> int:
        """Pixel-steps that ``key`` has spent today."""
        own = (spending.c.key == key) & (spending.c.day == _day(self._clock()))
        with self._engine.connect() as connection:
            return connection.execute(sa.select(spending.c.spent).where(own)).scalar() or 0

    def day_ends_in(self) -> float:
        """Seconds until the daily limits are reset."""
        return day_ends_in(self._clock())

    def _charge_once(self, cost: Cost, request: RequestId) -> ChargeRecord | None:
        now = self._clock()
        with self._engine.begin() as connection:
            old = request_charges.c.created < now - _REMEMBERED_S
            connection.execute(request_charges.delete().where(old))
            counted = {"open": request_charges.c.open + 1, "uses": request_charges.c.uses + 1}
            again = request_charges.update().where(_same(cost.key, request.key)).values(counted)
            known = connection.execute(again.returning(*request_charges.c)).mappings().first()
            if known is not None:
                if known["digest"] != request.digest:
                    raise KeyReusedError("this key was used for another request; use a new one")
                if known["uses"] > _MAX_USES:
                    raise KeyReusedError(f"this key was used {_MAX_USES} times; use a new one")
                return ChargeRecord(cost.key, known["day"], known["amount"], request.key)
            record = charge(connection, cost, now)
            if record is None:
                return None
            row = {"request": request.key, "digest": request.digest, "open": 1, "uses": 1, "created": now}
            row |= {"key": record.key, "day": record.day, "amount": record.amount}
            connection.execute(request_charges.insert().values(row))
            return replace(record, request=request.key)

    def _is_last(self, connection: sa.Connection, record: ChargeRecord) -> bool:
        """Close one request of a charge; True, and the charge is forgotten, if no other one is open."""
        assert record.request is not None
        same = _same(record.key, record.request)
        closed = request_charges.update().where(same).values(open=request_charges.c.open - 1)
        left = connection.execute(closed.returning(request_charges.c.open)).scalar()
        if left is not None and left > 0:
            return False
        connection.execute(request_charges.delete().where(same))
        return True


def charge(connection: sa.Connection, cost: Cost, now: float) -> ChargeRecord | None:
    """Charge ``cost`` within a transaction; None, without a charge, if it exceeds the rest of the day's limit."""
    if cost.amount > cost.limit:
        return None
    record = ChargeRecord(cost.key, _day(now), cost.amount)
    enough = _of(record) & (spending.c.spent + cost.amount <= cost.limit)
    change = spending.update().where(enough).values(spent=spending.c.spent + cost.amount)
    if connection.execute(change).rowcount:
        return record
    try:  # the first charge of the day
        with connection.begin_nested():
            connection.execute(spending.insert().values(key=cost.key, day=record.day, spent=cost.amount))
    except IntegrityError:  # the row exists
        return record if connection.execute(change).rowcount else None
    return record


def refund(connection: sa.Connection, record: ChargeRecord, amount: int | None = None) -> None:
    """Undo a charge, or ``amount`` of it, within a transaction."""
    back = record.amount if amount is None else amount
    connection.execute(spending.update().where(_of(record)).values(spent=spending.c.spent - back))


def quota_error(cost: Cost, now: float) -> QuotaError:
    """The refusal of a request that costs more than what is left of today's limit."""
    message = f"of the key's {cost.limit:,} pixel-steps a day (UTC) fewer than {cost.amount:,} are left"
    return QuotaError(message, day_ends_in(now))


def day_ends_in(now: float) -> float:
    """Seconds from ``now`` until the daily limits are reset."""
    return DAY_S - now % DAY_S


def _day(now: float) -> int:
    return int(now // DAY_S)


def _of(record: ChargeRecord) -> sa.ColumnElement[bool]:
    return (spending.c.key == record.key) & (spending.c.day == record.day)


def _same(key: str, request: str) -> sa.ColumnElement[bool]:
    return (request_charges.c.key == key) & (request_charges.c.request == request)
