"""What operators see and do for all owners. Independent of HTTP and Serve; calls that block run in database threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from components.access.audit import AuditEntry, AuditLog
from components.access.key import ApiKey
from components.access.store import KeyStore
from components.access.usage import UsageEntry, UsageStore
from components.config import Config
from components.database import open_service_database
from components.jobs.job import Job, State
from components.jobs.result_files import ResultFiles
from components.jobs.store import JobStore
from components.object_store import below, open_object_store
from components.owners.erasure import Receipt, erase_owner
from components.owners.export import export_owner
from components.owners.storage import Storage, owner_storage
from deploy.background import in_database_thread

#: Bytes of an export that are sent together, if its files are smaller.
_PIECE = 256 * 1024


class AdministrationService:
    """`Administration` over the service's database and object store."""

    def __init__(self, config: Config) -> None:
        serving = config.serving
        self._engine = open_service_database(serving)
        self._usage, self._keys, self._audit = (
            UsageStore(self._engine),
            KeyStore(self._engine),
            AuditLog(self._engine),
        )
        self._files = open_object_store(serving.store)
        self._results = open_object_store(below(serving.store, "jobs"))
        self._jobs = JobStore(self._engine, ResultFiles(below(serving.store, "jobs")), serving.jobs.max_queued)
        self._refresh_s = serving.access.refresh_s

    async def usage(self, days: int, owner: str | None = None) -> list[UsageEntry]:
        return await in_database_thread(self._usage.days, days, owner)

    async def storage(self, owner: str) -> Storage:
        return await in_database_thread(owner_storage, self._engine, owner)

    async def jobs(
        self, limit: int, after: str | None, owner: str | None = None, state: State | None = None
    ) -> list[Job]:
        return await in_database_thread(self._jobs.page, limit, after, owner, state)

    async def job(self, identifier: str) -> Job:
        return await in_database_thread(self._jobs.get, identifier, None)

    async def keys(self, owner: str | None = None) -> list[ApiKey]:
        return [key for key in await in_database_thread(self._keys.all) if owner in (None, key.owner)]

    async def change_key(self, identifier: str, values: Mapping[str, Any]) -> ApiKey:
        return await in_database_thread(self._keys.change, identifier, values)

    async def revoke_key(self, identifier: str) -> ApiKey:
        await in_database_thread(self._keys.revoke, identifier)
        return await in_database_thread(self._keys.change, identifier, {})

    async def audit(
        self, limit: int, after: str | None, owner: str | None = None, key: str | None = None
    ) -> list[AuditEntry]:
        return await in_database_thread(self._audit.page, limit, after, owner, key)

    async def export(self, owner: str) -> AsyncGenerator[bytes, None]:
        pieces = export_owner(self._engine, self._files, self._results, owner)

        def gather() -> bytes:
            gathered = bytearray()
            for piece in pieces:
                gathered += piece
                if len(gathered) >= _PIECE:
                    break
            return bytes(gathered)

        while piece := await in_database_thread(gather):
            yield piece

    async def erase(self, owner: str) -> Receipt:
        return await in_database_thread(
            erase_owner, self._engine, self._files, self._results, owner, 2 * self._refresh_s
        )
