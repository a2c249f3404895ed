"""The whole service in one event loop, without Ray: a generator over the fake pipeline, and HTTP without a socket."""

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
from deploy.generator.loading import VersionLoader, read_aliases
from deploy.generator.rollout import ModelVersions, follow_aliases
from deploy.generator.service import GenerationService
from deploy.jobs.service import JobService
from deploy.status.metrics import GeneratorMetrics
from deploy.status.replica_status import ReplicaStatus, report_periodically
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
class RunningService:
    """A running service; ``loads`` are the versions that were loaded, in this order."""

    client: httpx.AsyncClient
    generator: ModelVersions
    status: ReplicaStatus
    loads: list[str]

    async def draw(self, prompt: str = "a robot", **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/images/generations", json={"prompt": prompt, "steps": 3} | fields)

    async def until_version(self, version: str, within_s: float = 10) -> None:
        """Wait until ``version`` is what is served."""
        async with asyncio.timeout(within_s):
            while not any(s.version == version and s.role == "champion" for s in self.generator.versions()):
                await asyncio.sleep(0.01)

    async def until_answered(self, path: str, answer: object, within_s: float = 10) -> None:
        """Wait until ``GET path`` is answered by ``answer``; replicas report periodically."""
        async with asyncio.timeout(within_s):
            while (await self.client.get(path)).json() != answer:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_service(config: Config) -> AsyncIterator[RunningService]:
    characters, metrics, loads = CharacterService(config), GeneratorMetrics(), list[str]()
    loader = VersionLoader(config, registry, MODEL, characters, metrics)

    def load(version: str, beside: GenerationService | None) -> GenerationService:
        loads.append(version)
        return loader(version, beside)

    generator = ModelVersions(load, ["7"], config.serving.rollout, metrics)
    jobs, status, stories = JobService(config, generator), ReplicaStatus(), StoryService(config)
    jobs.start()
    stories.start()
    tasks = [
        asyncio.create_task(
            report_periodically(status, partial(generator.report, MODEL, "generator-1"), interval_s=0.05)
        ),
        asyncio.create_task(report_periodically(status, partial(jobs.report, "jobs-1"), interval_s=0.05)),
    ]
    if config.serving.rollout.poll_s:
        read = partial(read_aliases, config, registry, MODEL, "champion")
        tasks.append(asyncio.create_task(follow_aliases(generator, read, config.serving.rollout.poll_s)))
    app = create_app(config, ModelResponse(id=MODEL, version="7"), characters, generator, jobs, stories, status)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
            yield RunningService(client, generator, status, loads)
    finally:
        for task in tasks:
            task.cancel()
        await stories.close()
        await jobs.close()
        assert await generator.close(10)
