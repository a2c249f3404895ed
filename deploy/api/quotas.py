"""The caller of a request, and the daily quota of pixel-steps that its API key is charged."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError

from components.access.key import ApiKey
from components.access.limits import ChargeRecord, Cost, QuotaError, RequestId, UsageLedger, quota_error
from components.access.usage import Usage
from components.content import ContentError
from deploy.api.disconnects import ClientDisconnectedError
from deploy.api.error_responses import ApiError
from deploy.background import in_database_thread, run_in_background
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.requests import GenerationRequest

log = logging.getLogger(__name__)
#: Seconds between the attempts at a refund while the database does not answer.
_REFUND_PAUSES_S = (0.5, 2.0, 10.0, 30.0, 60.0, 120.0)
#: Seconds for which a response waits for a refund; after that the refund goes on without it.
_REFUND_WAIT_S = 1.0


@dataclass(frozen=True)
class Caller:
    """Who sends a request. Characters and jobs belong to their `owner` and are invisible to all others."""

    owner: str = ""
    #: None if API keys are off.
    key: ApiKey | None = None
    usage: UsageLedger | None = field(default=None, repr=False)
    #: Adds to the usage of an owner and a key.
    count: Callable[[str, str, Usage], None] | None = field(default=None, repr=False)

    @property
    def key_id(self) -> str:
        """The id of the key; empty if API keys are off."""
        return "" if self.key is None else self.key.id

    def counting(self, count: Callable[[str, str, Usage], None]) -> Caller:
        """A copy whose generated images are counted."""
        return replace(self, count=count)

    def cost(self, request: GenerationRequest) -> Cost | None:
        """What a request costs the key; None if the key has no daily limit.

        Raises:
            ApiError: the request exceeds the daily limit itself.
        """
        limit = None if self.key is None else self.key.limits.pixel_steps_per_day
        if self.key is None or limit is None:
            return None
        amount = request.pixel_steps
        if amount > limit:
            raise ApiError(400, f"this is {amount:,} pixel-steps, and the key has {limit:,} a day", code="beyond_quota")
        return Cost(self.key.id, amount, limit)

    async def check(self, request: GenerationRequest) -> None:
        """Refuse a job that the day's limit has no room for, before anything is computed for it; it is charged later.

        Raises:
            ApiError: the request exceeds what is left of the day's limit, or the limit itself.
            UnavailableError: the database does not answer.
        """
        cost = self.cost(request)
        if cost is None or self.usage is None:
            return
        try:
            spent = await in_database_thread(self.usage.spent_by, cost.key)
        except SQLAlchemyError as error:
            raise _unchecked(error) from None
        if spent + cost.amount > cost.limit:
            raise quota_refusal(quota_error(cost, time.time()))

    async def charge(self, request: GenerationRequest, repeatable: RequestId | None = None) -> Charge:
        """Charge a request's pixel-steps to the key, if the key has a daily limit.

        Call it after the checks of the request and before anything is computed for it, and use the result as a context
        manager around everything else, including the response.

        Args:
            repeatable: of a request with an idempotency key; its repetitions are not charged again.

        Raises:
            ApiError: the request exceeds what is left of the day's limit, or the limit itself.
            KeyReusedError: the idempotency key was used for another request.
            UnavailableError: the database does not answer.
        """
        cost, used = self.cost(request), Usage(pixel_steps=request.pixel_steps, images=len(request.seeds))
        counted = None if self.count is None else partial(self.count, self.owner, self.key_id)
        if cost is None or self.usage is None:
            return Charge(used=used, count=counted)
        charging = asyncio.create_task(
            in_database_thread(self.usage.charge, cost.key, cost.amount, cost.limit, repeatable)
        )
        try:
            record = await asyncio.shield(charging)
        except asyncio.CancelledError:  # the thread charges all the same
            run_in_background(_undo(self.usage, charging))
            raise
        except SQLAlchemyError as error:
            raise _unchecked(error) from None
        if record is None:
            raise quota_refusal(quota_error(cost, time.time()))
        return Charge(self.usage, record, used, counted)


class Charge:
    """The pixel-steps charged for a request.

    As a context manager it refunds them if the block fails or is cancelled, as by the service's time limit. It does not
    if the content policy refuses a generated image or the client disconnects, because images were generated or may have
    been.

    Args:
        used: pixel-steps and images of the request, which ``count`` counts as the caller's usage when they are final.
    """

    def __init__(
        self,
        usage: UsageLedger | None = None,
        record: ChargeRecord | None = None,
        used: Usage | None = None,
        count: Callable[[Usage], None] | None = None,
    ) -> None:
        self._usage, self._record = usage, record
        self._used, self._count = used, count

    def keep(self) -> None:
        """Make the charge final: the images are on their way to the client."""
        self._record = None
        self._count_once(self._used)

    async def refund(self) -> None:
        """Take the charge back; a second call does nothing. A refund that the database delays goes on by itself."""
        self._used = None
        usage, record, self._record = self._usage, self._record, None
        if usage is not None and record is not None:
            await asyncio.wait({run_in_background(_refund(usage, record))}, timeout=_REFUND_WAIT_S)

    async def settle(self, error: BaseException) -> None:
        """Take the charge back if ``error``, which has ended the request, is none of the client's."""
        if not isinstance(error, ContentError | ClientDisconnectedError):
            await self.refund()
        elif self._used is not None:
            self._count_once(replace(self._used, images=0))

    def _count_once(self, used: Usage | None) -> None:
        if used is not None and self._count is not None:
            self._count(used)
        self._used = None

    async def __aenter__(self) -> Charge:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            await self.settle(error)


def quota_refusal(error: QuotaError) -> ApiError:
    """The response to a request that costs more than what is left of the day's limit."""
    # OpenAI's client retries every 429 at once, unless this header tells it not to.
    headers = {"Retry-After": str(math.ceil(error.retry_after_s)), "X-Should-Retry": "false"}
    return ApiError(429, str(error), code="insufficient_quota", headers=headers)


def _unchecked(error: SQLAlchemyError) -> UnavailableError:
    log.error("quotas: %s", type(error).__name__)
    return UnavailableError("quotas cannot be checked at the moment; try again")


async def _refund(usage: UsageLedger, record: ChargeRecord) -> None:
    for pause_s in (*_REFUND_PAUSES_S, None):
        try:
            await in_database_thread(usage.refund, record)
            return
        except SQLAlchemyError as error:
            if pause_s is None:
                log.error("quotas: %s: key %s stays charged", type(error).__name__, record.key)
            else:
                await asyncio.sleep(pause_s)


async def _undo(usage: UsageLedger, charging: asyncio.Task[ChargeRecord | None]) -> None:
    """Refund a charge that nobody waits for any more."""
    try:
        record = await charging
    except Exception:
        return  # nothing was charged
    if record is not None:
        await _refund(usage, record)


def current_caller(request: Request) -> Caller:
    """The caller that `AuthenticationMiddleware` has found; if API keys are off, everybody has the owner ``""``."""
    found = getattr(request.state, "caller", None)
    return found if isinstance(found, Caller) else Caller()


CurrentCaller = Annotated[Caller, Depends(current_caller)]
