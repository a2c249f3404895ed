"""The board: where the service's parts say how they are.

A handle reaches one replica of many, so what concerns all of them (metrics, versions, how long the queue is) is posted
here every few seconds, and read by whoever is asked for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric

from deploy.interfaces.protocols import UnavailableError

log = logging.getLogger(__name__)
#: Seconds between two reports of a replica, and after which one that is not heard of is forgotten.
EVERY_S = 2.0
_KEEP_S = 10.0


@dataclass(frozen=True)
class Serving:
    """A version that a generator has loaded; one that is ``kept`` waits for a way back."""

    version: str
    role: Literal["champion", "challenger", "kept"]


@dataclass(frozen=True)
class Report:
    """What one replica says of itself.

    Args:
        part: ``generator`` or ``jobs``.
        replica: its name, another after every start.
        trouble: why it cannot work; none if it can.
        backlog_s: seconds that what waits for it will take.
        versions: that a generator has loaded.
        metrics: Prometheus' families, without the replica's label.
    """

    part: str
    replica: str
    trouble: str | None = None
    backlog_s: float = 0.0
    versions: tuple[Serving, ...] = ()
    metrics: tuple[Metric, ...] = ()


class ReplicaStatus:
    """The newest report of each replica that lives."""

    def __init__(self, keep_s: float = _KEEP_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._reports: dict[tuple[str, str], tuple[float, Report]] = {}

    async def report(self, report: Report) -> None:
        self._reports[report.part, report.replica] = self._clock(), report

    async def read(self) -> list[Report]:
        oldest = self._clock() - self._keep_s
        self._reports = {name: dated for name, dated in self._reports.items() if dated[0] >= oldest}
        return [report for _, report in self._reports.values()]


async def posted(board: ReplicaStatus, within_s: float = 1.0) -> list[Report]:
    """What the board holds; nothing if it does not answer soon."""
    try:
        async with asyncio.timeout(within_s):
            return await board.read()
    except (TimeoutError, UnavailableError) as error:
        log.warning("the board does not answer: %s", type(error).__name__)
        return []


async def keep_reporting(board: ReplicaStatus, make: Callable[[], Awaitable[Report]], every_s: float = EVERY_S) -> None:
    """Post what ``make`` says, for ever. A board that does not answer is tried again."""
    while True:
        try:
            await board.report(await make())
        except Exception as error:  # whoever reads sees that this replica is silent
            log.warning("the board does not answer: %s", type(error).__name__)
        await asyncio.sleep(every_s)
