"""What operators see and do for all owners. Independent of HTTP and Serve; calls of the database run in threads."""

from __future__ import annotations

import asyncio

from components.access.usage import UsageEntry, UsageStore
from components.config import Config
from components.database import open_database
from components.owners.storage import Storage, owner_storage


class AdministrationService:
    """`Administration` over the service's database."""

    def __init__(self, config: Config) -> None:
        self._engine = open_database(config.serving.store, config.serving.database)
        self._usage = UsageStore(self._engine)

    async def usage(self, days: int, owner: str | None = None) -> list[UsageEntry]:
        return await asyncio.to_thread(self._usage.days, days, owner)

    async def storage(self, owner: str) -> Storage:
        return await asyncio.to_thread(owner_storage, self._engine, owner)
