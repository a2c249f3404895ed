"""Records what callers do in the audit log."""

from __future__ import annotations

import re

from starlette.types import Scope

from components.access.audit import AuditEntry, AuditLog
from components.logs import log_context
from deploy.api.quotas import Caller
from deploy.background import BatchWriter

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Requests that are recorded although they change nothing.
_ADMIN = "/v1/admin"
#: What an id looks like; nothing else of a path is recorded.
_ID = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class AuditRecorder:
    """Collects entries, and writes them about twice a second; those of the admin API before the request ends."""

    def __init__(self, log: AuditLog) -> None:
        self._entries = BatchWriter("audit", log.add, interval_s=0.5)

    async def record(self, scope: Scope, status: int) -> None:
        """Record a request that has ended, if it had a valid key and changes something, or is of the admin API."""
        caller, route = scope["state"].get("caller"), getattr(scope.get("route"), "path", "")
        admin = route.startswith(_ADMIN)
        if not isinstance(caller, Caller) or caller.key is None:
            return
        if scope["method"] in _SAFE_METHODS and not admin:
            return
        context = log_context()
        ids = [each for each in map(str, scope.get("path_params", {}).values()) if _ID.fullmatch(each)]
        ids += [each for each in (context.job, context.resource) if each and each not in ids]
        action = f"{scope['method']} {route or 'refused'}"
        entry = AuditEntry(caller.owner, caller.key_id, action, " ".join(ids), str(status), context.request)
        self._entries.add(entry)
        if admin:
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected now."""
        await self._entries.flush()
