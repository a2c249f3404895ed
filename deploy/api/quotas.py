"""Who sends a request, and what their orders cost them."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from types import TracebackType

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError

from components.access.key import ApiKey
from components.access.limits import Receipt, UsageLedger
from components.content import ContentError
from deploy.api.error_responses import ApiError
from deploy.interfaces.protocols import Order, UnavailableError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who sends a request. Characters and jobs belong to their `owner`, and nobody else sees them."""

    owner: str = ""
    #: What they were let in with; none where no keys are asked for.
    key: ApiKey | None = None
    ledger: UsageLedger | None = field(default=None, repr=False)

    async def charge(self, order: Order) -> Charge:
        """Charge an order's pixel-steps to the key, if it has a limit of them.

        Call it when nothing is left that the order could be refused for, and keep to what comes back.

        Raises:
            ApiError: not so many are left of this day's, or there never are.
            UnavailableError: the database does not answer.
        """
        limit = None if self.key is None else self.key.limits.pixel_steps_per_day
        if self.key is None or self.ledger is None or limit is None:
            return Charge()
        amount = order.width * order.height * order.steps * len(order.seeds)
        if amount > limit:
            raise ApiError(400, f"this is {amount:,} pixel-steps, and the key has {limit:,} a day", code="beyond_quota")
        try:
            receipt = await asyncio.to_thread(self.ledger.charge, self.key.id, amount, limit)
        except SQLAlchemyError as error:
            log.error("quotas: %s", type(error).__name__)
            raise UnavailableError("quotas cannot be checked at the moment; try again") from None
        if receipt is None:
            # The official client sends everything that is answered with 429 again at once, unless it is told not to.
            headers = {"Retry-After": str(math.ceil(self.ledger.day_ends_in())), "X-Should-Retry": "false"}
            message = f"of the key's {limit:,} pixel-steps a day (UTC) fewer than {amount:,} are left"
            raise ApiError(429, message, code="insufficient_quota", headers=headers)
        return Charge(self.ledger, receipt)


class Charge:
    """What an order was charged.

    As a context it is given back if the block fails. It is not where the pictures were drawn and are refused for what
    they show, nor where the client leaves: much may be drawn by then.
    """

    def __init__(self, ledger: UsageLedger | None = None, receipt: Receipt | None = None) -> None:
        self._ledger, self._receipt = ledger, receipt

    async def give_back(self) -> None:
        """Nothing came of the order."""
        ledger, receipt, self._receipt = self._ledger, self._receipt, None
        if ledger is None or receipt is None:
            return
        try:
            await asyncio.to_thread(ledger.refund, receipt)
        except SQLAlchemyError as error:
            log.error("quotas: %s: key %s stays charged", type(error).__name__, receipt.key)

    async def __aenter__(self) -> Charge:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ContentError):
            await self.give_back()


def caller(request: Request) -> Caller:
    """The caller that was let in; where no keys are asked for, it is everybody's owner ``""``."""
    found = getattr(request.state, "caller", None)
    return found if isinstance(found, Caller) else Caller()
