"""The generator as the gateway calls it: owners share the places in front of it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from components.config import ServingConfig
from deploy.fair_places import FairPlaces
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult
from deploy.status.replica_status import RecentReports, ReplicaReport


class FairGenerator:
    """`Generator` whose requests wait in a `FairQueue`, not in Serve's queues, which do not know owners.

    The number of places follows from the reports of the replicas; see `places`.
    """

    def __init__(self, generator: Generator, serving: ServingConfig, reports: RecentReports) -> None:
        self._generator, self._serving, self._reports = generator, serving, reports
        self._places = FairPlaces(places([], serving), serving)

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        async with self._place(request.owner):
            return await self._generator.generate(request)

    async def encode_character(self, character: str, revision: int, owner: str = "") -> None:
        async with self._place(owner):
            await self._generator.encode_character(character, revision, owner)

    async def stream(self, request: GenerationRequest, previews: int) -> AsyncGenerator[GenerationEvent, None]:
        async with self._place(request.owner), aclosing(self._generator.stream(request, previews)) as events:
            async for event in events:
                yield event

    @asynccontextmanager
    async def _place(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it until the block ends; see `FairPlaces.place`."""
        reports = await self._reports.read()
        if reports:
            self._places.resize(places(reports, self._serving))
        async with self._places.place(owner):
            yield


def places(reports: Sequence[ReplicaReport], serving: ServingConfig) -> int:
    """The places of one gateway: its part of what the generators process at the same time.

    One generator more than there are is counted, as long as there may be more: Serve starts it only when it sees
    requests for it. Until then its requests share the steps of the others.
    """
    replicas = {report.replica for report in reports if report.part == "generator"}
    gateways = {report.replica for report in reports if report.part == "gateway"}
    generators = min(len(replicas) + 1, serving.max_replicas)
    return math.ceil(generators * serving.max_ongoing_requests / max(1, len(gateways)))
