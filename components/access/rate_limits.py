"""Requests a minute of API keys, counted in a process or, for several gateways together, in the database.

Both are token buckets by the generic cell rate algorithm (ITU-T I.371): a key may send its requests of a minute at
once, and then one each time that a sixtieth of them is allowed a second. All that is kept of a key is the time at which
it may send a whole minute's requests again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.store import request_rates

_MINUTE_S = 60.0
#: A bucket that is full so much later was written before the clock was set back: it counts as full.
_LATEST_S = 2 * _MINUTE_S
#: Part of a request that may be missing: sums of floating-point seconds since 1970 are not exact.
_ROUNDING = 0.01


@dataclass(frozen=True)
class RateDecision:
    """Whether a request is allowed.

    Args:
        wait_s: 0 if it is; otherwise the seconds until one is.
        remaining: requests that are allowed at once after this one.
        reset_s: seconds after which a whole minute's requests are allowed, if none is sent.
    """

    wait_s: float
    remaining: int
    reset_s: float


@dataclass(frozen=True)
class RateRequest:
    """A request of ``key``, which has ``per_minute`` requests a minute."""

    key: str
    per_minute: int

    @property
    def interval_s(self) -> float:
        """Seconds after which one more request is allowed."""
        return _MINUTE_S / self.per_minute

    @property
    def room_s(self) -> float:
        """Seconds until the key's bucket is full, up to which the request is allowed."""
        return _MINUTE_S - (1 - _ROUNDING) * self.interval_s

    def decide(self, full_at: float, now: float, allowed: bool) -> RateDecision:
        """The decision about this request, after which the key's bucket is full at ``full_at``."""
        left_s = min(_MINUTE_S, max(0.0, full_at - now))
        wait_s = 0.0 if allowed else max(_ROUNDING * self.interval_s, left_s + self.interval_s - _MINUTE_S)
        return RateDecision(wait_s, int((_MINUTE_S - left_s) / self.interval_s + _ROUNDING), left_s)


class RateLimiter:
    """Counts requests in this process.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: By key: its limit, and when its bucket is full.
        self._buckets: dict[str, tuple[int, float]] = {}

    def acquire(self, request: RateRequest) -> RateDecision:
        """Count a request, if it is allowed. A key whose limit has changed begins with a full bucket."""
        now = self._clock()
        per_minute, full_at = self._buckets.get(request.key, (request.per_minute, now))
        full_at = max(full_at, now) if per_minute == request.per_minute else now
        allowed = full_at <= now + request.room_s
        full_at += request.interval_s if allowed else 0
        self._buckets[request.key] = request.per_minute, full_at
        return request.decide(full_at, now, allowed)


class SharedRateLimiter:
    """Counts requests in the database, for all processes that use it.

    Each request is one conditional update, so that processes do not allow too many together. Their clocks may differ by
    a few seconds, and as many seconds' requests may be allowed too early or too late.

    Args:
        engine: of a database that has `components.access.store.TABLES`.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def acquire_all(self, requests: Sequence[RateRequest]) -> list[RateDecision]:
        """Count those requests that are allowed, in their order, in one transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: none was counted.
        """
        decisions: dict[int, RateDecision] = {}
        refused: dict[RateRequest, RateDecision] = {}
        with self._engine.begin() as connection:
            now = self._clock()
            # All processes lock the rows of keys in the same order.
            for index in sorted(range(len(requests)), key=lambda index: (requests[index].key, index)):
                request = requests[index]
                decisions[index] = refused.get(request) or _acquire(connection, request, now)
                if decisions[index].wait_s:  # and so is every further one
                    refused[request] = decisions[index]
        return [decisions[index] for index in range(len(requests))]


def _acquire(connection: sa.Connection, request: RateRequest, now: float) -> RateDecision:
    own, full_at = request_rates.c.key == request.key, request_rates.c.full_at
    new = (request_rates.c.per_minute != request.per_minute) | (full_at > now + _LATEST_S)
    room = new | (full_at <= now + request.room_s)
    since = sa.case((new | (full_at < now), now), else_=full_at)
    values = {"per_minute": request.per_minute, "full_at": since + request.interval_s}
    change = request_rates.update().where(own, room).values(values).returning(full_at)
    while True:
        counted = connection.execute(change).scalar()
        if counted is not None:
            return request.decide(counted, now, True)
        found = connection.execute(sa.select(full_at).where(own)).scalar()
        if found is not None:
            return request.decide(found, now, False)
        full = now + request.interval_s
        first = {"key": request.key, "per_minute": request.per_minute, "full_at": full}
        try:  # the first request of the key
            with connection.begin_nested():
                connection.execute(request_rates.insert().values(first))
        except IntegrityError:  # that of another process was faster
            continue
        return request.decide(full, now, True)
