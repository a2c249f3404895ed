"""The ``x-ratelimit-*`` headers: what a key has left of its requests a minute and of its pixel-steps a day."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from components.access.key import ApiKey
from components.access.limits import UsageLedger
from components.access.rate_limits import RateDecision
from deploy.background import in_database_thread

#: Seconds for which the spending of a key is remembered, and those that a response waits for it.
_REMEMBERED_S, _WAIT_S = 2.0, 0.5


class RateLimitHeaders:
    """The headers of a key's limits; a key without a limit has none of that limit.

    Of the pixel-steps, they tell what is known: if the database does not answer in time, what was left before, if that
    is known at all.
    """

    def __init__(self, usage: UsageLedger) -> None:
        self._usage = usage
        #: Key id -> when it was read (monotonic), and what was spent.
        self._spent: dict[str, tuple[float, int]] = {}

    async def of(self, key: ApiKey, rate: RateDecision | None, changed: bool) -> dict[str, str]:
        """The headers of a response.

        Args:
            rate: of the request, if the key has a limit of requests a minute.
            changed: whether the request may have spent pixel-steps.
        """
        headers: dict[str, str] = {}
        if rate is not None and (per_minute := key.limits.requests_per_minute) is not None:
            headers |= _headers("requests", per_minute, rate.remaining, rate.reset_s)
        if (per_day := key.limits.pixel_steps_per_day) is not None:
            spent = await self._spent_by(key.id, changed)
            if spent is not None:
                left = max(0, per_day - spent)
                headers |= _headers("pixel-steps", per_day, left, self._usage.day_ends_in())
        return headers

    async def _spent_by(self, key: str, changed: bool) -> int | None:
        read_at, spent = self._spent.get(key, (float("-inf"), None))
        if changed or time.monotonic() - read_at > _REMEMBERED_S:
            with suppress(SQLAlchemyError, TimeoutError):
                spent = await asyncio.wait_for(in_database_thread(self._usage.spent_by, key), _WAIT_S)
                self._spent[key] = (time.monotonic(), spent)
        return spent


def _headers(of: str, limit: int, remaining: int, reset_s: float) -> dict[str, str]:
    """``reset`` in whole seconds, until everything is there again."""
    return {
        f"x-ratelimit-limit-{of}": str(limit),
        f"x-ratelimit-remaining-{of}": str(remaining),
        f"x-ratelimit-reset-{of}": str(math.ceil(round(reset_s, 3))),
    }
