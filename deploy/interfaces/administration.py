"""The protocol of what operators see and do for all owners, and of the usage that owners see of their own."""

from __future__ import annotations

from typing import Protocol

from components.access.usage import UsageEntry
from components.owners.storage import Storage


class Administration(Protocol):
    """Reports usage (see `components.access.usage`)."""

    async def usage(self, days: int, owner: str | None = None) -> list[UsageEntry]:
        """Usage of the last ``days`` days, newest first; by default of all owners."""
        ...

    async def storage(self, owner: str) -> Storage: ...
