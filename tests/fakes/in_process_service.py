"""The whole service in one event loop, without Ray: a fleet over the painting fake, and HTTP without a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import psutil

from components.config import Config
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.generator.loading import Loader, lineup
from deploy.generator.service import GenerationService
from deploy.generator.versions import ModelVersions, watch
from deploy.jobs.service import JobService
from deploy.status.metrics import GeneratorMetrics
from deploy.status.replica_status import ReplicaStatus, keep_reporting
from deploy.stories.service import StoryService
from tests.fakes import pipeline as registry

MODEL = "realcustom-tiny"


def wait_until(condition: Callable[[], object], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


def generators() -> list[int]:
    """The processes of Serve's generators among those that this run has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::ServeReplica:realcustom:Generator"):
                found.append(process.pid)
    return found


@dataclass
class Studio:
    """A running service; ``loads`` are the versions that were loaded, in this order."""

    client: httpx.AsyncClient
    fleet: ModelVersions
    board: ReplicaStatus
    loads: list[str]

    async def draw(self, prompt: str = "a robot", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/images/generations", json={"prompt": prompt, "steps": 3} | fields)

    async def until_version(self, version: str, within_s: float = 10) -> None:
        """Wait until ``version`` is what is served."""
        async with asyncio.timeout(within_s):
            while not any(s.version == version and s.role == "champion" for s in self.fleet.versions()):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def studio(config: Config) -> AsyncIterator[Studio]:
    characters, metrics, loads = CharacterService(config), GeneratorMetrics(), list[str]()
    loader = Loader(config, registry, MODEL, characters, metrics)

    def load(version: str, beside: GenerationService | None) -> GenerationService:
        loads.append(version)
        return loader(version, beside)

    fleet = ModelVersions(load, ["7"], config.serving.rollout, metrics)
    jobs, board, stories = JobService(config, fleet), ReplicaStatus(), StoryService(config)
    jobs.start()
    stories.start()
    tasks = [
        asyncio.create_task(keep_reporting(board, partial(fleet.report, MODEL, "generator-1"), every_s=0.05)),
        asyncio.create_task(keep_reporting(board, partial(jobs.report, "jobs-1"), every_s=0.05)),
    ]
    if config.serving.rollout.poll_s:
        look = partial(lineup, config, registry, MODEL, "champion")
        tasks.append(asyncio.create_task(watch(fleet, look, config.serving.rollout.poll_s)))
    app = create_app(config, ModelResponse(id=MODEL, version="7"), characters, fleet, jobs, board, stories)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://studio", timeout=30) as client:
            yield Studio(client, fleet, board, loads)
    finally:
        for task in tasks:
            task.cancel()
        await stories.close()
        await jobs.close()
        assert await fleet.close(10)
