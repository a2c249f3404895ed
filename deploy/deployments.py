"""The service's parts as Ray Serve deployments: what they are in `deploy`, over each other's handles.

Serve calls and awaits ``__del__`` before it stops a replica, once the requests that were begun have ended.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from components.characters.rows import CharacterRows
from components.characters.tables import TABLES
from components.config import Config
from components.database import open_database
from components.errors import RegistryError
from components.provenance.pictures import ModelName
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.generator.aliases import VersionAliases
from deploy.generator.loading import Loader, PipelineSource, lineup
from deploy.generator.versions import ModelVersions, watch
from deploy.handles import RemoteGenerator, RemoteHandle
from deploy.interfaces.protocols import Characters, Generator, Jobs, SubjectSource
from deploy.interfaces.stories import Stories
from deploy.jobs.service import JobService
from deploy.reading_handles import CharacterReader
from deploy.status.metrics import GeneratorMetrics
from deploy.status.replica_status import ReplicaStatus, Report, keep_reporting
from deploy.stories.service import StoryService

log = logging.getLogger(__name__)


@serve.ingress()
class GatewayDeployment:
    """The HTTP interface over handles of the other deployments."""

    def __init__(
        self,
        config: Config,
        model: ModelResponse,
        characters: DeploymentHandle,
        generator: DeploymentHandle,
        jobs: DeploymentHandle,
        board: DeploymentHandle,
        stories: DeploymentHandle,
    ) -> None:
        self._config, self._model, self._board, self._stories = config, model, board, stories
        self._characters, self._generator, self._jobs = characters, generator, jobs

    def __serve_build_asgi_app__(self) -> FastAPI:
        serving, jobs = self._config.serving, cast(Jobs, RemoteHandle(self._jobs))
        rows = CharacterRows(open_database(serving.store, serving.database, TABLES))
        characters = cast(Characters, CharacterReader(self._characters, rows))
        generator = cast(Generator, RemoteGenerator(self._generator))
        board, stories = cast(ReplicaStatus, RemoteHandle(self._board)), cast(Stories, RemoteHandle(self._stories))
        return create_app(self._config, self._model, characters, generator, jobs, board, stories)


class GeneratorDeployment(ModelVersions):
    """The versions that the registry names, loaded and warm before the replica takes requests.

    Args:
        model: its version is served unless ``alias`` names another by now.
        alias: is watched; None serves the version as it is.
    """

    def __init__(
        self,
        config: Config,
        model: ModelName,
        alias: str | None,
        registry: str,
        characters: DeploymentHandle,
        board: DeploymentHandle,
    ) -> None:
        torch.set_num_threads(config.serving.generator_threads)
        self._stuck_s, self._drain_s = config.serving.stuck_s, config.serving.drain_s
        source, metrics = find_registry(registry), GeneratorMetrics()
        load = Loader(config, source, model.name, cast(SubjectSource, RemoteHandle(characters)), metrics)
        look = None if alias is None else partial(lineup, config, source, model.name, alias)
        super().__init__(load, first_versions(look, model.version), config.serving.rollout, metrics)
        self._tasks = [reporting(board, partial(self.report, model.name))]
        if look is not None:
            self._tasks.append(asyncio.create_task(watch(self, look, config.serving.rollout.poll_s)))

    async def check_health(self) -> None:
        """Serve replaces a replica that raises here a few times."""
        self.check(self._stuck_s)

    async def __del__(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.close(self._drain_s)


class JobsDeployment(JobService):
    """Works on jobs as long as its replica lives."""

    def __init__(self, config: Config, generator: DeploymentHandle, board: DeploymentHandle) -> None:
        super().__init__(config, cast(Generator, RemoteGenerator(generator)))
        self.start()
        self._reporting = reporting(board, self.report)

    async def check_health(self) -> None:
        self.check()

    async def __del__(self) -> None:
        self._reporting.cancel()
        await self.close()


class StoriesDeployment(StoryService):
    """Keeps stories, and collects their pictures as long as its replica lives."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.start()

    async def check_health(self) -> None:
        self.check()

    async def __del__(self) -> None:
        await self.close()


def reporting(board: DeploymentHandle, make: Callable[[str], Awaitable[Report]]) -> asyncio.Task[None]:
    """Report to the board, under a new name, for as long as the replica lives."""
    return asyncio.create_task(
        keep_reporting(cast(ReplicaStatus, RemoteHandle(board)), partial(make, secrets.token_hex(4)))
    )


def first_versions(look: Callable[[], VersionAliases | None] | None, pinned: str) -> list[str]:
    """What the registry names by now, and what the application was built with, for where that cannot be loaded."""
    try:
        wanted = None if look is None else look()
    except RegistryError as error:
        log.warning("version %s is served: %s", pinned, error)
        wanted = None
    return [pinned] if wanted is None or wanted.champion == pinned else [wanted.champion, pinned]


def find_registry(path: str) -> PipelineSource:
    """The module that pipelines come from."""
    return cast(PipelineSource, importlib.import_module(path))
