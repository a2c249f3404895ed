"""The Ray Serve application: the gateway, the characters, the generator and the jobs as deployments, wired together.

``serve deploy deploy/serve.yaml`` calls `build`; a program that already has a configuration calls `start` and `stop`.
"""

from __future__ import annotations

import importlib
import socket
from functools import partial
from typing import Any, Protocol, cast

import ray
import torch
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from components.config import Config, for_workers, load_config
from components.model.naming import WordNamer
from deploy.characters import CharacterService
from deploy.door import require_door
from deploy.gateway import create_app
from deploy.generation import GenerationService, Pipeline, measured_budget
from deploy.jobs import JobService
from deploy.manifests import picture_writer
from deploy.pictures_out import ModelName
from deploy.protocols import Characters, Generator, Jobs, SubjectSource
from deploy.remote import Remote, RemoteGenerator
from deploy.schema import ModelResponse

NAME = "realcustom"
#: Module that pipelines come from by default.
REGISTRY = "components.registry.versions"
#: Requests that a gateway, or the jobs, hold open; the generator's own limits are much lower, so that requests are
#: refused in JSON.
_OPEN_REQUESTS = 1000
#: Processors that each of the other parts reserves.
_SMALL_PART = 0.25


class BuildArgs(BaseModel):
    """The ``args`` of an application in a Serve config file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    preset: str = "tiny"
    #: ``key=value``, as after ``--set``.
    overrides: list[str] = []
    #: ``models:/name@alias`` or ``models:/name/version``; by default the configured model and alias.
    model_uri: str | None = None
    #: Module with `resolve` and `load_pipeline`.
    registry: str = REGISTRY


class Version(Protocol):
    """What `Registry.resolve` finds (see `components.registry.versions.ModelVersion`)."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


class Registry(Protocol):
    """Where pipelines come from."""

    def resolve(self, config: Config, uri: str) -> Version: ...

    def load_pipeline(self, config: Config, uri: str) -> Pipeline: ...


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
    ) -> None:
        self._config, self._model = config, model
        self._characters, self._generator, self._jobs = characters, generator, jobs

    def __serve_build_asgi_app__(self) -> FastAPI:
        characters, jobs = cast(Characters, Remote(self._characters)), cast(Jobs, Remote(self._jobs))
        generator = cast(Generator, RemoteGenerator(self._generator))
        return create_app(self._config, self._model, characters, generator, jobs)


class GeneratorDeployment(GenerationService):
    """Loads its pipeline, and measures how much of it to use where nobody says so."""

    def __init__(self, config: Config, model: ModelName, registry: str, characters: DeploymentHandle) -> None:
        torch.set_num_threads(config.serving.generator_threads)
        pipeline = _registry(registry).load_pipeline(config, f"models:/{model.name}/{model.version}")
        super().__init__(
            pipeline,
            cast(SubjectSource, Remote(characters)),
            config.serving.pixel_budget or measured_budget(pipeline, config.sampling),
            config.serving.request_timeout_s,
            picture_writer(config.serving, model),
            partial(WordNamer.from_config, config.model, config.naming),
        )


class JobsDeployment(JobService):
    """Works on jobs as long as its replica lives."""

    def __init__(self, config: Config, generator: DeploymentHandle) -> None:
        super().__init__(config, cast(Generator, RemoteGenerator(generator)))
        self.start()

    async def check_health(self) -> None:
        self.check()

    async def __del__(self) -> None:
        """Serve calls and awaits this before it stops a replica."""
        await self.close()


def build(args: dict[str, Any] | None = None) -> Application:
    """The application that a Serve config file names as ``deploy.app:build``; ``args`` are `BuildArgs`.

    Where Serve listens is said in the file's ``http_options``, which are not passed on (and mean ``0.0.0.0`` where
    nobody says anything). So it takes the network for granted.

    Raises:
        ConfigError: keys are off, and nobody has said that this is meant.
        RegistryError: the model, version or alias is unknown.
    """
    given = BuildArgs.model_validate(args or {})
    config = load_config(given.preset, given.overrides)
    require_door(config, None)
    return wire(config, given.model_uri, given.registry)


def wire(config: Config, model_uri: str | None = None, registry: str = REGISTRY) -> Application:
    """Wire the deployments.

    An alias is resolved here, once: replicas that start later serve the same version, whatever the alias names by then.

    Raises:
        RegistryError: the model, version or alias is unknown.
    """
    found = _registry(registry).resolve(config, model_uri or f"models:/{config.registry.model}@{config.registry.alias}")
    model = ModelName(found.name, found.version)
    config = for_workers(config)
    limits = config.serving
    replicas = {"min_replicas": 1, "max_replicas": limits.max_replicas}
    characters = serve.deployment(
        CharacterService,
        name="Characters",
        max_ongoing_requests=2 * limits.max_ongoing_requests,
        max_queued_requests=limits.max_queued_requests,
        autoscaling_config=replicas,
        ray_actor_options={"num_cpus": _SMALL_PART},
    ).bind(config)
    generator = serve.deployment(
        GeneratorDeployment,
        name="Generator",
        max_ongoing_requests=limits.max_ongoing_requests,
        max_queued_requests=limits.max_queued_requests,
        autoscaling_config=replicas | {"target_ongoing_requests": limits.max_ongoing_requests},
        ray_actor_options={"num_cpus": limits.generator_threads, "num_gpus": limits.generator_gpus},
    ).bind(config, model, registry, characters)
    jobs = serve.deployment(
        JobsDeployment,
        name="Jobs",
        max_ongoing_requests=_OPEN_REQUESTS,
        max_queued_requests=_OPEN_REQUESTS,
        num_replicas=limits.jobs.workers,
        ray_actor_options={"num_cpus": _SMALL_PART},
    ).bind(config, generator)
    return serve.deployment(
        GatewayDeployment,
        name="Gateway",
        max_ongoing_requests=_OPEN_REQUESTS,
        max_queued_requests=_OPEN_REQUESTS,
        ray_actor_options={"num_cpus": _SMALL_PART},
    ).bind(config, ModelResponse(id=model.name, version=model.version), characters, generator, jobs)


def start(config: Config, model_uri: str | None = None, registry: str = REGISTRY) -> str:
    """Serve on this machine, in the running Ray or a new one; returns the URL once every part is ready.

    Raises:
        ConfigError: others can reach the host, keys are off, and nobody has said that this is meant.
        RegistryError: the model, version or alias is unknown.
    """
    require_door(config, config.serving.host)
    application = wire(config, model_uri, registry)
    port = config.serving.port or _free_port(config.serving.host)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": config.serving.host, "port": port, "request_timeout_s": config.serving.request_timeout_s},
    )
    serve.run(application, name=NAME, route_prefix="/")
    host = "127.0.0.1" if config.serving.host == "0.0.0.0" else config.serving.host
    return f"http://{host}:{port}"


def stop() -> None:
    """End what `start` began; Ray stays."""
    serve.shutdown()


def _registry(path: str) -> Registry:
    return cast(Registry, importlib.import_module(path))


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
