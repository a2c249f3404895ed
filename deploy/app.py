"""The Ray Serve application: the gateway, the characters, the generator and the jobs as deployments, wired together.

``serve deploy deploy/serve.yaml`` calls `build`; a program that already has a configuration calls `start` and `stop`.
"""

from __future__ import annotations

import socket
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from components.config import Config, for_workers, load_config
from components.provenance.pictures import ModelName
from deploy.api.authentication import require_door
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.deployments import GatewayDeployment, GeneratorDeployment, JobsDeployment, StoriesDeployment, find_registry
from deploy.status.replica_status import ReplicaStatus

NAME = "realcustom"
#: Module that pipelines come from by default.
REGISTRY = "components.registry.versions"
#: Requests that a gateway, or the jobs, hold open; the generator's own limits are much lower, so that requests are
#: refused in JSON.
_OPEN_REQUESTS = 1000
#: Processors that each of the other parts reserves.
_SMALL_PART = 0.25
#: Seconds between two looks whether a stopping replica is done.
_DRAIN_TICK_S = 0.5


class BuildArgs(BaseModel):
    """The ``args`` of an application in a Serve config file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    preset: str = "tiny"
    #: ``key=value``, as after ``--set``.
    overrides: list[str] = []
    #: ``models:/name@alias`` or ``models:/name/version``; by default the configured model and alias.
    model_uri: str | None = None
    #: Module with what `deploy.generator.loading.PipelineSource` has.
    registry: str = REGISTRY


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

    An alias is resolved here, and followed by the generators, unless ``serving.rollout.poll_s`` is 0.

    Raises:
        RegistryError: the model, version or alias is unknown.
    """
    uri = model_uri or f"models:/{config.registry.model}@{config.registry.alias}"
    found = find_registry(registry).resolve(config, uri)
    model = ModelName(found.name, found.version)
    config = for_workers(config)
    limits = config.serving
    alias = (uri.partition("@")[2] or None) if limits.rollout.poll_s else None
    patient: dict[str, Any] = {
        "graceful_shutdown_timeout_s": limits.drain_s + _DRAIN_TICK_S,
        "graceful_shutdown_wait_loop_s": _DRAIN_TICK_S,
        "health_check_period_s": limits.health_check_s,
    }
    replicas = {"max_replicas": limits.max_replicas, "downscale_delay_s": limits.scale_down_s}
    board = serve.deployment(
        ReplicaStatus,
        name="Board",
        num_replicas=1,
        max_ongoing_requests=_OPEN_REQUESTS,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    ).bind()
    characters = serve.deployment(
        CharacterService,
        name="Characters",
        max_ongoing_requests=2 * limits.max_ongoing_requests,
        max_queued_requests=limits.max_queued_requests,
        autoscaling_config=replicas | {"min_replicas": 1},
        ray_actor_options={"num_cpus": _SMALL_PART},
    ).bind(config)
    generator = serve.deployment(
        GeneratorDeployment,
        name="Generator",
        max_ongoing_requests=limits.max_ongoing_requests,
        max_queued_requests=limits.max_queued_requests,
        autoscaling_config=replicas
        | {"min_replicas": limits.min_replicas, "target_ongoing_requests": limits.max_ongoing_requests},
        ray_actor_options={"num_cpus": limits.generator_threads, "num_gpus": limits.generator_gpus},
        **patient,
    ).bind(config, model, alias, registry, characters, board)
    jobs = serve.deployment(
        JobsDeployment,
        name="Jobs",
        max_ongoing_requests=_OPEN_REQUESTS,
        max_queued_requests=_OPEN_REQUESTS,
        num_replicas=limits.jobs.workers,
        ray_actor_options={"num_cpus": _SMALL_PART},
    ).bind(config, generator, board)
    stories = serve.deployment(
        StoriesDeployment,
        name="Stories",
        num_replicas=1,
        max_ongoing_requests=_OPEN_REQUESTS,
        max_queued_requests=_OPEN_REQUESTS,
        ray_actor_options={"num_cpus": _SMALL_PART},
    ).bind(config)
    return serve.deployment(
        GatewayDeployment,
        name="Gateway",
        max_ongoing_requests=_OPEN_REQUESTS,
        max_queued_requests=_OPEN_REQUESTS,
        ray_actor_options={"num_cpus": _SMALL_PART},
        **patient,
    ).bind(config, ModelResponse(id=model.name, version=model.version), characters, generator, jobs, board, stories)


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
        http_options={"host": config.serving.host, "port": port, "request_timeout_s": config.serving.proxy_timeout_s},
    )
    serve.run(application, name=NAME, route_prefix="/")
    host = "127.0.0.1" if config.serving.host == "0.0.0.0" else config.serving.host
    return f"http://{host}:{port}"


def stop() -> None:
    """End what `start` began; Ray stays."""
    serve.shutdown()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
