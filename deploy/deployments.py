"""The service's parts as Ray Serve deployments. Each gets handles of the deployments that it calls.

Serve awaits ``__del__`` before it stops a replica, after the replica's running requests have ended.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import ray
import torch
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from components.characters.character_rows import CharacterRows
from components.config import Config
from components.database import open_service_database
from components.errors import RegistryError
from components.logs import configure_logs
from components.provenance.image_files import ModelName
from deploy.administration.service import AdministrationService
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.carried_context import within_callers_context
from deploy.characters.service import CharacterService
from deploy.generator.loading import PipelineSource, VersionLoader, read_aliases
from deploy.generator.rollout import ModelVersions, VersionAliases, follow_aliases
from deploy.handles import RemoteAdministration, RemoteCharacters, RemoteGenerator, RemoteHandle
from deploy.interfaces.administration import Administration
from deploy.interfaces.protocols import Characters, Generator, Jobs, SubjectSource
from deploy.interfaces.stories import Stories
from deploy.jobs.service import JobService
from deploy.status.metrics import GeneratorMetrics
from deploy.status.readiness import awaited_resources
from deploy.status.replica_status import ReplicaReport, ReplicaStatus, report_periodically
from deploy.stories.service import StoryService

log = logging.getLogger(__name__)


@within_callers_context
class StatusDeployment(ReplicaStatus):
    """The reports of all replicas."""


@within_callers_context
class CharactersDeployment(CharacterService):
    """Stores characters."""

    def __init__(self, config: Config) -> None:
        configure_logs(config.serving.logging)
        super().__init__(config)


@within_callers_context
class AdministrationDeployment(AdministrationService):
    """What operators see and do for all owners."""

    def __init__(self, config: Config) -> None:
        configure_logs(config.serving.logging)
        super().__init__(config)


@serve.ingress()
class GatewayDeployment:
    """The HTTP interface."""

    def __init__(
        self,
        config: Config,
        model: ModelResponse,
        characters: DeploymentHandle,
        generator: DeploymentHandle,
        jobs: DeploymentHandle,
        status: DeploymentHandle,
        stories: DeploymentHandle,
        administration: DeploymentHandle,
    ) -> None:
        self._config, self._model, self._status, self._stories = config, model, status, stories
        self._administration = administration
        self._characters, self._generator, self._jobs = characters, generator, jobs

    def __serve_build_asgi_app__(self) -> FastAPI:
        serving, jobs = self._config.serving, cast(Jobs, RemoteHandle(self._jobs))
        rows = CharacterRows(open_service_database(serving))
        characters = cast(Characters, RemoteCharacters(self._characters, rows))
        generator = cast(Generator, RemoteGenerator(self._generator))
        status = cast(ReplicaStatus, RemoteHandle(self._status))
        stories = cast(Stories, RemoteHandle(self._stories))
        administration = cast(Administration, RemoteAdministration(self._administration))
        configure_logs(serving.logging)
        return create_app(
            self._config,
            self._model,
            characters,
            generator,
            jobs,
            stories,
            status,
            administration,
            echo_request_id=False,
            awaited=partial(awaited_of_cluster, serving.generator_threads, serving.generator_gpus),
        )


@within_callers_context
class GeneratorDeployment(ModelVersions):
    """Serves the model versions that the registry's aliases name, loaded before the replica takes requests.

    Args:
        model: name and version; the version is used unless ``alias`` names another one by now.
        alias: polled for changes; None serves ``model`` as it is.
        registry: import path of a `PipelineSource` module.
    """

    def __init__(
        self,
        config: Config,
        model: ModelName,
        alias: str | None,
        registry: str,
        characters: DeploymentHandle,
        status: DeploymentHandle,
    ) -> None:
        configure_logs(config.serving.logging)
        torch.set_num_threads(config.serving.generator_threads)
        self._stuck_s, self._drain_s = config.serving.stuck_s, config.serving.drain_time_s
        source, metrics = import_registry(registry), GeneratorMetrics()
        load = VersionLoader(config, source, model.name, cast(SubjectSource, RemoteHandle(characters)), metrics)
        read = None if alias is None else partial(read_aliases, config, source, model.name, alias)
        board, replica = cast(ReplicaStatus, RemoteHandle(status)), secrets.token_hex(4)
        may_be_replaced = partial(board.may_be_replaced, "generator", replica)
        versions = initial_versions(read, model.version)
        super().__init__(load, versions, config.serving.rollout, metrics, may_be_replaced)
        self._tasks = [start_reporting(status, partial(self.report, model.name), replica)]
        if read is not None:
            self._tasks.append(asyncio.create_task(follow_aliases(self, read, config.serving.rollout.poll_s)))

    async def check_health(self) -> None:
        """Called by Serve, which replaces the replica after a few failures in a row."""
        self.check(self._stuck_s)

    async def __del__(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.close(self._drain_s)


@within_callers_context
class JobsDeployment(JobService):
    """Executes jobs as long as its replica lives."""

    def __init__(self, config: Config, generator: DeploymentHandle, status: DeploymentHandle) -> None:
        configure_logs(config.serving.logging)
        super().__init__(config, cast(Generator, RemoteGenerator(generator)))
        self.start()
        self._reporting = start_reporting(status, self.report)

    async def check_health(self) -> None:
        self.check()

    async def __del__(self) -> None:
        self._reporting.cancel()
        await self.close()


@within_callers_context
class StoriesDeployment(StoryService):
    """Stores stories, and collects their images as long as its replica lives."""

    def __init__(self, config: Config) -> None:
        configure_logs(config.serving.logging)
        super().__init__(config)
        self.start()

    async def check_health(self) -> None:
        self.check()

    async def __del__(self) -> None:
        await self.close()


def awaited_of_cluster(cpus: float, gpus: float) -> str | None:
    """See `awaited_resources`, of the Ray cluster that this process belongs to."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return awaited_resources(nodes, ray.available_resources(), cpus, gpus)


def start_reporting(
    status: DeploymentHandle, make_report: Callable[[str], Awaitable[ReplicaReport]], replica: str | None = None
) -> asyncio.Task[None]:
    """Report to ``status`` as long as the replica lives; ``make_report`` gets its name, by default a new random one."""
    make = partial(make_report, replica or secrets.token_hex(4))
    return asyncio.create_task(report_periodically(cast(ReplicaStatus, RemoteHandle(status)), make))


def initial_versions(read: Callable[[], VersionAliases | None] | None, pinned: str) -> list[str]:
    """The versions to try: the one that the alias names now, then the one the application was built with."""
    try:
        aliases = None if read is None else read()
    except RegistryError as error:
        log.warning("version %s is served: %s", pinned, error)
        aliases = None
    return [pinned] if aliases is None or aliases.champion == pinned else [aliases.champion, pinned]


def import_registry(path: str) -> PipelineSource:
    """Import the module that pipelines are loaded from."""
    return cast(PipelineSource, importlib.import_module(path))
