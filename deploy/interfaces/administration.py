"""The protocol of what operators see and do for all owners, and of the usage that owners see of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from components.access.audit import AuditEntry
from components.access.key import ApiKey
from components.access.usage import UsageEntry
from components.jobs.job import Job, State
from components.owners.erasure import Receipt
from components.owners.storage import Storage


class Administration(Protocol):
    """Reads and changes what belongs to any owner. An unknown job raises JobNotFoundError, a key KeyNotFoundError."""

    async def usage(self, days: int, owner: str | None = None) -> list[UsageEntry]:
        """Usage of the last ``days`` days, newest first; by default of all owners."""
        ...

    async def storage(self, owner: str) -> Storage: ...

    async def jobs(
        self, limit: int, after: str | None, owner: str | None = None, state: State | None = None
    ) -> list[Job]:
        """Jobs, newest first; by default of all owners."""
        ...

    async def job(self, identifier: str) -> Job: ...

    async def keys(self, owner: str | None = None) -> list[ApiKey]: ...

    async def change_key(self, identifier: str, values: Mapping[str, Any]) -> ApiKey:
        """See `components.access.store.KeyStore.change`."""
        ...

    async def revoke_key(self, identifier: str) -> ApiKey: ...

    async def audit(
        self, limit: int, after: str | None, owner: str | None = None, key: str | None = None
    ) -> list[AuditEntry]: ...

    def export(self, owner: str) -> AsyncGenerator[bytes, None]:
        """The pieces of a zip file with everything of an owner."""
        ...

    async def erase(self, owner: str) -> Receipt:
        """Erase everything of an owner except entries of the audit log."""
        ...
