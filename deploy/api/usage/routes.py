"""``GET /v1/usage``: what the caller's owner has used and stored."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from components.config import ServingConfig
from deploy.api.quotas import CurrentCaller
from deploy.api.usage.schema import DayUsage, StorageLimits, StorageUsage, UsageResponse
from deploy.api.usage_counter import UsageCounter
from deploy.interfaces.administration import Administration

Days = Annotated[int, Query(ge=1, le=366)]


def usage_routes(administration: Administration, counter: UsageCounter, serving: ServingConfig) -> APIRouter:
    """The route of the caller's own usage.

    Args:
        counter: of this gateway; what it has counted is included.
    """
    router = APIRouter(prefix="/v1/usage")

    @router.get("")
    async def own_usage(caller: CurrentCaller, days: Days = 30) -> UsageResponse:
        await counter.flush()
        found = await administration.usage(days, caller.owner)
        storage = await administration.storage(caller.owner)
        return UsageResponse(
            data=[DayUsage.of(entry) for entry in found],
            storage=StorageUsage(**vars(storage)),
            limits=StorageLimits.of(serving),
        )

    return router
