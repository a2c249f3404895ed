"""Counts the usage of owners in a gateway, and adds it to the database about once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from components.access.usage import Usage, UsageEntry, UsageStore, usage_day
from deploy.api.quotas import Caller
from deploy.background import BatchWriter

_PATHS = "/v1/"


class UsageCounter:
    """Counts in memory: a request waits for no database."""

    def __init__(self, store: UsageStore, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._entries = clock, BatchWriter("usage", store.add)

    def add(self, owner: str, key: str, used: Usage) -> None:
        self._entries.add(UsageEntry(owner, key, usage_day(self._clock()), used))

    async def flush(self) -> None:
        """Add what was counted to the database now."""
        await self._entries.flush()


class UsageMiddleware:
    """ASGI middleware: counts the requests of callers, and hands the counter to what they generate."""

    def __init__(self, app: ASGIApp, counter: UsageCounter) -> None:
        self._app, self._counter = app, counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].removeprefix(scope.get("root_path", "")).startswith(_PATHS):
            state = scope.setdefault("state", {})
            caller = state.get("caller") or Caller()
            state["caller"] = caller.counting(self._counter.add)
            self._counter.add(caller.owner, caller.key_id, Usage(requests=1))
        await self._app(scope, receive, send)
