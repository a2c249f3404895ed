"""Refuses requests that would take longer than they may, before anything is charged or computed for them."""

from __future__ import annotations

from components.config import ServingConfig
from deploy.interfaces.generator_speed import GeneratorSpeed
from deploy.interfaces.requests import GenerationRequest
from deploy.status.replica_status import RecentReports


class TimeLimits:
    """Knows from the reports of the generators how fast they are."""

    def __init__(self, reports: RecentReports, serving: ServingConfig) -> None:
        self._reports = reports
        self._limit_s, self._jobs_s = serving.request_timeout_s, serving.jobs.timeout_s
        #: As they were reported last: generators may have stopped because nothing was to be done.
        self._speeds: list[GeneratorSpeed] = []

    async def check(self, request: GenerationRequest) -> None:
        """Refuse a request that takes longer than its time limit, by default that of the gateway.

        Any generator may get it: it has to fit the slowest one. Until one has reported, everything is accepted.

        Raises:
            BeyondTimeLimitError: with the largest requests that would fit, and what a job may be.
        """
        limit_s = self._limit_s if request.timeout_s is None else request.timeout_s
        speeds = [report.speed for report in await self._reports.read() if report.speed is not None]
        self._speeds = speeds or self._speeds
        for speed in sorted(self._speeds, key=lambda speed: speed.seconds(request), reverse=True):
            speed.check(request, limit_s, self._jobs_s)
