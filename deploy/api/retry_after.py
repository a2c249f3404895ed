"""The Retry-After header: when a request that was refused (429, 503) is likely to be accepted."""

from __future__ import annotations

import math
from collections.abc import Iterable

from components.config import ServingConfig
from components.jobs.job import QueueBusyError, QueueFullError
from deploy.interfaces.errors import BusyError, UnavailableError
from deploy.status.replica_status import RecentReports, ReplicaReport

#: Retry-After in seconds if nothing better is known, which is about a replica's restart; and the maximum.
_RESTART_S = 5
_MAX_S = 600


class RetryAfter:
    """Estimates from the replicas' reports when a refused request is likely to be accepted."""

    def __init__(self, reports: RecentReports, serving: ServingConfig) -> None:
        self._reports, self._serving = reports, serving

    async def seconds(self, error: Exception) -> int | None:
        """Seconds to wait after ``error``; None if a retry would fail again."""
        known_s = getattr(error, "retry_after_s", None)
        if known_s is not None:
            return _bounded(known_s)
        if not isinstance(error, BusyError | QueueFullError | QueueBusyError):
            return _RESTART_S if isinstance(error, UnavailableError) else None
        part = "generator" if isinstance(error, BusyError) else "jobs"
        return backlog_retry_after_s(await self._reports.read(), self._serving, part)


def backlog_retry_after_s(reports: Iterable[ReplicaReport], serving: ServingConfig, part: str) -> int:
    """Seconds until half of the mean backlog of a part's replicas is done.

    Args:
        part: whose queue is full: ``generator`` or ``jobs``.
    """
    backlogs = [report.backlog_s for report in reports if report.part == part]
    if not backlogs:
        return _RESTART_S
    seconds = sum(backlogs) / len(backlogs)
    if part == "generator":  # an engine's backlog does not include the requests that wait in the gateways
        seconds *= 1 + serving.max_queued_requests / (serving.max_ongoing_requests * len(backlogs))
    return _bounded(seconds / 2)


def _bounded(seconds: float) -> int:
    return max(1, min(math.ceil(seconds), _MAX_S))
