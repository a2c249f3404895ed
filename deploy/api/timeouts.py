"""How long a request may take, and when whoever is refused may come back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.config import ServingConfig
from components.jobs.job import QueueBusyError, QueueFullError
from deploy.api.error_responses import answer_to
from deploy.interfaces.protocols import BusyError, UnavailableError
from deploy.status.replica_status import ReplicaStatus, Report, posted

#: Seconds in which a part is restarted, where nothing better is known; and the longest that anybody is sent away for.
_RESTART_S = 5
_LONGEST_S = 600


class RetryAfter:
    """Knows from the board when a refused request is likely to be taken."""

    def __init__(self, board: ReplicaStatus, serving: ServingConfig) -> None:
        self._board, self._serving = board, serving

    async def retry_after_s(self, error: Exception) -> int | None:
        """Seconds to wait after ``error``; None where it is nothing that goes by."""
        known = getattr(error, "retry_after_s", None)
        if known is not None:
            return _bounded(known)
        if not isinstance(error, BusyError | QueueFullError | QueueBusyError):
            return _RESTART_S if isinstance(error, UnavailableError) else None
        part = "generator" if isinstance(error, BusyError) else "jobs"
        return room_in_s(await posted(self._board), self._serving, part)


def room_in_s(reports: Iterable[Report], serving: ServingConfig, part: str) -> int:
    """Seconds until half of what waits is done, so that whoever comes back then is likely to find room.

    Args:
        part: which is full, ``generator`` or ``jobs``.
    """
    backlogs = [report.backlog_s for report in reports if report.part == part]
    if not backlogs:
        return _RESTART_S
    seconds = sum(backlogs) / len(backlogs)
    if part == "generator":  # its engine knows nothing of the requests that wait in front of it
        seconds *= 1 + serving.max_queued_requests / (serving.max_ongoing_requests * len(backlogs))
    return _bounded(seconds / 2)


class LimitTime:
    """ASGI middleware: a request that is not answered in time is ended, and answered with 503."""

    def __init__(self, app: ASGIApp, seconds: float, patience: RetryAfter) -> None:
        self._app, self._seconds, self._patience = app, seconds, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._app(scope, receive, sent)
        except TimeoutError:
            if begun or not limit.expired():
                raise
            error = BusyError(f"the request was not done within {self._seconds:g} s; try again later")
            await answer_to(error, await self._patience.retry_after_s(error))(scope, receive, send)


def _bounded(seconds: float) -> int:
    return max(1, min(math.ceil(seconds), _LONGEST_S))
