"""Requests a minute of keys, as a gateway counts them: by itself, or together with the others."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from components.access.rate_limits import RateDecision, RateLimiter, RateRequest, SharedRateLimiter
from components.config import ServingConfig
from deploy.background import in_database_thread

log = logging.getLogger(__name__)
#: Seconds that a request waits for the database, as for the keys.
_WAIT_S = 2.0


class RequestRates(Protocol):
    """Decides whether a request is allowed."""

    async def acquire(self, request: RateRequest) -> RateDecision: ...


def request_rates(serving: ServingConfig, engine: sa.Engine) -> RequestRates:
    """As ``serving.access.rate_limits`` has it; by default gateways count together if there may be several.

    Args:
        engine: of the service's database.
    """
    place = serving.access.rate_limits or ("database" if serving.gateways.max > 1 else "gateway")
    own = OwnRates(RateLimiter())
    return own if place == "gateway" else SharedRates(SharedRateLimiter(engine), own)


class OwnRates:
    """`RequestRates` of this gateway alone."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def acquire(self, request: RateRequest) -> RateDecision:
        return self._limiter.acquire(request)


@dataclass(frozen=True)
class _Waiting:
    request: RateRequest
    #: None if the database did not count it.
    decision: asyncio.Future[RateDecision | None]


class SharedRates:
    """`RequestRates` of all gateways, counted in the database.

    Requests that come while the database is asked wait for the next call: there is one at a time. A key that was
    refused is refused without a call as long as it has to wait. While the database does not answer, within ``wait_s``
    seconds at first and then at once, this gateway counts by itself: keys have their limit in each gateway.
    """

    def __init__(self, limiter: SharedRateLimiter, own: OwnRates, wait_s: float = _WAIT_S) -> None:
        self._limiter, self._own, self._wait_s = limiter, own, wait_s
        self._waiting: list[_Waiting] = []
        self._counting: asyncio.Task[None] | None = None
        #: Whether the last call failed or is late.
        self._late = False
        #: By request: the last refusal, and when it was given, by `time.monotonic`.
        self._refused: dict[RateRequest, tuple[RateDecision, float]] = {}

    async def acquire(self, request: RateRequest) -> RateDecision:
        refusal = self._known_refusal(request)
        if refusal is not None:
            return refusal
        decision = await self._counted(request)
        if decision is None:
            return await self._own.acquire(request)
        if decision.wait_s:
            self._refused[request] = decision, time.monotonic()
        return decision

    def _known_refusal(self, request: RateRequest) -> RateDecision | None:
        known = self._refused.get(request)
        if known is None:
            return None
        decision, since = known
        elapsed_s = time.monotonic() - since
        if elapsed_s >= decision.wait_s:
            del self._refused[request]
            return None
        return replace(decision, wait_s=decision.wait_s - elapsed_s, reset_s=decision.reset_s - elapsed_s)

    async def _counted(self, request: RateRequest) -> RateDecision | None:
        """The database's decision; None if it does not answer."""
        late, calling = self._late, self._counting is not None and not self._counting.done()
        if late and calling:
            return None
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if not calling:
            self._counting = asyncio.create_task(self._count())
        if late:  # the call finds out whether the database answers again
            return None
        await asyncio.wait({waiting.decision}, timeout=self._wait_s)
        if waiting.decision.done():
            return waiting.decision.result()
        self._be_late("it is late")
        return None

    async def _count(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            decisions: list[RateDecision] | list[None] = [None] * len(waiting)
            try:
                decisions = await in_database_thread(self._limiter.acquire_all, [each.request for each in waiting])
                self._late = False
            except SQLAlchemyError as error:
                self._be_late(type(error).__name__)
            for each, decision in zip(waiting, decisions, strict=True):
                each.decision.set_result(decision)

    def _be_late(self, reason: str) -> None:
        if not self._late:
            log.warning("requests a minute are counted by this gateway alone: the database does not answer: %s", reason)
        self._late = True
