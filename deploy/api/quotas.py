"""The caller of a request, and the daily quota of pixel-steps that its API key is charged."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from types import TracebackType
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError

from components.access.key import ApiKey
from components.access.limits import Receipt, UsageLedger
from components.content import ContentError
from deploy.api.error_responses import ApiError
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.requests import GenerationRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who sends a request. Characters and jobs belong to their `owner` and are invisible to all others."""

    owner: str = ""
    #: None if API keys are off.
    key: ApiKey | None = None
    usage: UsageLedger | None = field(default=None, repr=False)

    async def charge(self, request: GenerationRequest) -> Charge:
        """Charge a request's pixel-steps to the key, if the key has a daily limit.

        Call it after all checks of the request, and use the result as a context manager around the generation.

        Raises:
            ApiError: the request exceeds what is left of the day's limit, or the limit itself.
            UnavailableError: the database does not answer.
        """
        limit = None if self.key is None else self.key.limits.pixel_steps_per_day
        if self.key is None or self.usage is None or limit is None:
            return Charge()
        amount = request.width * request.height * request.steps * len(request.seeds)
        if amount > limit:
            raise ApiError(400, f"this is {amount:,} pixel-steps, and the key has {limit:,} a day", code="beyond_quota")
        try:
            receipt = await asyncio.to_thread(self.usage.charge, self.key.id, amount, limit)
        except SQLAlchemyError as error:
            log.error("quotas: %s", type(error).__name__)
            raise UnavailableError("quotas cannot be checked at the moment; try again") from None
        if receipt is None:
            # OpenAI's client retries every 429 at once, unless this header tells it not to.
            headers = {"Retry-After": str(math.ceil(self.usage.day_ends_in())), "X-Should-Retry": "false"}
            message = f"of the key's {limit:,} pixel-steps a day (UTC) fewer than {amount:,} are left"
            raise ApiError(429, message, code="insufficient_quota", headers=headers)
        return Charge(self.usage, receipt)


class Charge:
    """The pixel-steps charged for a request.

    As a context manager it refunds them if the block raises. It does not if the content policy refuses a generated
    image or the client disconnects, because images were generated or may have been.
    """

    def __init__(self, usage: UsageLedger | None = None, receipt: Receipt | None = None) -> None:
        self._usage, self._receipt = usage, receipt

    async def refund(self) -> None:
        """Take the charge back; a second call does nothing."""
        usage, receipt, self._receipt = self._usage, self._receipt, None
        if usage is None or receipt is None:
            return
        try:
            await asyncio.to_thread(usage.give_back, receipt)
        except SQLAlchemyError as error:
            log.error("quotas: %s: key %s stays charged", type(error).__name__, receipt.key)

    async def __aenter__(self) -> Charge:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ContentError):
            await self.refund()


def current_caller(request: Request) -> Caller:
    """The caller that `AuthenticationMiddleware` has found; if API keys are off, everybody has the owner ``""``."""
    found = getattr(request.state, "caller", None)
    return found if isinstance(found, Caller) else Caller()


CurrentCaller = Annotated[Caller, Depends(current_caller)]
