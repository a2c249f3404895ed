"""The status of the service's replicas: each reports to one `ReplicaStatus` deployment every few seconds.

A Serve handle reaches only one replica of a deployment. What concerns all replicas (metrics, loaded versions, backlog)
is therefore collected here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric

from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.generator_speed import GeneratorSpeed

log = logging.getLogger(__name__)
#: Seconds between two reports of a replica, and after which a silent replica is dropped.
REPORT_INTERVAL_S = 2.0
_KEEP_S = 10.0
#: Seconds after which the next replica may be replaced although fewer than before are there, as after a scale-down.
_REPLACEMENT_S = 900.0


@dataclass(frozen=True)
class LoadedVersion:
    """A model version that a generator has loaded; ``kept`` means kept for a rollback."""

    version: str
    role: Literal["champion", "challenger", "kept"]


@dataclass(frozen=True)
class ReplicaReport:
    """The state of one replica.

    Args:
        part: ``gateway``, ``generator`` or ``jobs``.
        replica: a name that is new after every start.
        problem: why the replica cannot work; None if it can.
        backlog_s: seconds until its queue is done.
        versions: the loaded versions of a generator.
        metrics: Prometheus metric families without the label ``replica``.
        speed: of a generator.
    """

    part: str
    replica: str
    problem: str | None = None
    backlog_s: float = 0.0
    versions: tuple[LoadedVersion, ...] = ()
    metrics: tuple[Metric, ...] = ()
    speed: GeneratorSpeed | None = None


class ReplicaStatus:
    """Holds the newest report of each live replica."""

    def __init__(self, keep_s: float = _KEEP_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._reports: dict[tuple[str, str], tuple[float, ReplicaReport]] = {}
        #: By part: the replica that is being replaced, the number of replicas there were, and when.
        self._replaced: dict[str, tuple[str, int, float]] = {}

    async def report(self, report: ReplicaReport) -> None:
        self._reports[report.part, report.replica] = self._clock(), report

    async def read(self) -> list[ReplicaReport]:
        oldest = self._clock() - self._keep_s
        self._reports = {name: dated for name, dated in self._reports.items() if dated[0] >= oldest}
        return [report for _, report in self._reports.values()]

    async def may_be_replaced(self, part: str, replica: str) -> bool:
        """Whether a replica may stop for another one to take its place: one of a part at a time.

        The next one may when the one before no longer reports, and as many as before do.
        """
        there = [report.replica for report in await self.read() if report.part == part and report.problem is None]
        before = self._replaced.get(part)
        if before is not None and before[0] != replica:
            name, count, since = before
            pending = name in there or len(there) < count
            if pending and self._clock() - since < _REPLACEMENT_S:
                return False
        if before is None or before[0] != replica:
            self._replaced[part] = replica, len(there), self._clock()
        return True


async def read_reports(status: ReplicaStatus, timeout_s: float = 1.0) -> list[ReplicaReport]:
    """The current reports; none if ``status`` does not answer in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await status.read()
    except (TimeoutError, UnavailableError) as error:
        log.warning("the replica status does not answer: %s", type(error).__name__)
        return []


class RecentReports:
    """The reports as they were at most ``max_age_s`` seconds ago; concurrent readers share one call of ``status``.

    For what happens on every request, such as an estimate for a refused one.
    """

    def __init__(self, status: ReplicaStatus, max_age_s: float = REPORT_INTERVAL_S) -> None:
        self._status, self._max_age_s = status, max_age_s
        self._read_at = float("-inf")
        self._reading: asyncio.Task[list[ReplicaReport]] | None = None

    async def read(self) -> list[ReplicaReport]:
        now = time.monotonic()
        if self._reading is None or now - self._read_at > self._max_age_s:
            self._read_at = now
            self._reading = asyncio.create_task(read_reports(self._status))
        return await asyncio.shield(self._reading)


async def report_periodically(
    status: ReplicaStatus, make_report: Callable[[], Awaitable[ReplicaReport]], interval_s: float = REPORT_INTERVAL_S
) -> None:
    """Send a report every ``interval_s`` seconds, for ever; errors are logged."""
    while True:
        try:
            await status.report(await make_report())
        except Exception as error:  # without reports this replica is dropped, which readers see
            log.warning("the replica status does not answer: %s", type(error).__name__)
        await asyncio.sleep(interval_s)
