"""The Ray Serve application: binds the deployments to each other.

``serve deploy deploy/serve.yaml`` calls `build`; a program with a configuration of its own calls `start` and `stop`.
"""

from __future__ import annotations

import logging
import socket
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from components.config import Config, for_workers, load_config
from components.provenance.image_files import ModelName
from deploy.api.authentication import require_authentication
from deploy.api.open_requests import OPEN_REQUESTS
from deploy.api.schema import ModelResponse
from deploy.deployments import (
    AdministrationDeployment,
    CharactersDeployment,
    GatewayDeployment,
    GeneratorDeployment,
    JobsDeployment,
    StatusDeployment,
    StoriesDeployment,
    import_registry,
)

NAME = "realcustom"
#: Default of `BuildArgs.registry`.
REGISTRY = "components.registry.versions"
#: Limit of ongoing requests of the deployments that only forward or store. The generator's limits are much lower, so
#: that it is the service that refuses a request, in JSON, and not Serve.
_MAX_ONGOING_REQUESTS = 1000
#: Limit of ongoing requests of a generator, as a multiple of ``serving.max_ongoing_requests``: requests wait in the
#: gateways, which know their owners. Twice for owners that join others, and twice for a replica that is being started.
_GENERATOR_ROOM = 4
#: CPUs reserved for a replica that does little computation.
_LIGHT_CPUS = 0.25
#: Seconds between Serve's checks whether a stopping replica has finished.
_SHUTDOWN_POLL_S = 0.5


class BuildArgs(BaseModel):
    """``args`` of the application in a Serve config file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    preset: str | None = None
    #: YAML file, as after ``--config``; the process that builds the application reads it.
    config: str | None = None
    #: ``key=value``, as after ``--set``.
    overrides: list[str] = []
    #: ``models:/name@alias`` or ``models:/name/version``; by default the configured model and alias.
    model_uri: str | None = None
    #: Import path of a module with the functions of `deploy.generator.loading.PipelineSource`.
    registry: str = REGISTRY


def build(args: dict[str, Any] | None = None) -> Application:
    """The application that a Serve config file names as ``deploy.app:build``; ``args`` are `BuildArgs`.

    Serve does not pass the file's ``http_options`` on, whose default host is ``0.0.0.0``. The host is therefore assumed
    to be reachable from the network.

    Raises:
        ConfigError: API keys are off, and ``serving.access.open_to_network`` is not set.
        RegistryError: the model, version or alias does not exist.
    """
    given = BuildArgs.model_validate(args or {})
    config = load_config(given.preset, given.overrides, given.config)
    require_authentication(config, None)
    return bind_deployments(config, given.model_uri, given.registry)


def bind_deployments(config: Config, model_uri: str | None = None, registry: str = REGISTRY) -> Application:
    """Bind the deployments to each other.

    An alias is resolved here once, and then polled by the generators unless ``serving.rollout.poll_s`` is 0.

    Raises:
        RegistryError: the model, version or alias does not exist.
    """
    uri = model_uri or f"models:/{config.registry.model}@{config.registry.alias}"
    found = import_registry(registry).resolve(config, uri)
    model = ModelName(found.name, found.version)
    config = for_workers(config)
    limits = config.serving
    alias = (uri.partition("@")[2] or None) if limits.rollout.poll_s else None
    draining: dict[str, Any] = {
        "graceful_shutdown_timeout_s": limits.drain_time_s + _SHUTDOWN_POLL_S,
        "graceful_shutdown_wait_loop_s": _SHUTDOWN_POLL_S,
    }
    graceful = draining | {"health_check_period_s": limits.health_check_s}
    replicas = {"max_replicas": limits.max_replicas, "downscale_delay_s": limits.scale_down_s}
    status = serve.deployment(
        StatusDeployment,
        name="ReplicaStatus",
        num_replicas=1,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    ).bind()
    characters = serve.deployment(
        CharactersDeployment,
        name="Characters",
        max_ongoing_requests=2 * limits.max_ongoing_requests,
        max_queued_requests=limits.max_queued_requests,
        autoscaling_config=replicas | {"min_replicas": 1},
        ray_actor_options={"num_cpus": _LIGHT_CPUS},
        **draining,
    ).bind(config)
    generator = serve.deployment(
        GeneratorDeployment,
        name="Generator",
        max_ongoing_requests=_GENERATOR_ROOM * limits.max_ongoing_requests,
        max_queued_requests=limits.max_queued_requests,
        autoscaling_config=replicas
        | {"min_replicas": limits.min_replicas, "target_ongoing_requests": limits.max_ongoing_requests},
        ray_actor_options={"num_cpus": limits.generator_threads, "num_gpus": limits.generator_gpus},
        **graceful,
    ).bind(config, model, alias, registry, characters, status)
    jobs = serve.deployment(
        JobsDeployment,
        name="Jobs",
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        max_queued_requests=_MAX_ONGOING_REQUESTS,
        num_replicas=limits.jobs.workers,
        ray_actor_options={"num_cpus": _LIGHT_CPUS},
    ).bind(config, generator, status)
    stories = serve.deployment(
        StoriesDeployment,
        name="Stories",
        num_replicas=1,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        max_queued_requests=_MAX_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": _LIGHT_CPUS},
        **draining,
    ).bind(config)
    administration = serve.deployment(
        AdministrationDeployment,
        name="Administration",
        num_replicas=1,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        max_queued_requests=_MAX_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": 0},
        **draining,
    ).bind(config)
    gateway = serve.deployment(
        GatewayDeployment,
        name="Gateway",
        max_ongoing_requests=OPEN_REQUESTS,
        max_queued_requests=OPEN_REQUESTS,
        autoscaling_config={
            "min_replicas": limits.gateways.min,
            "max_replicas": limits.gateways.max,
            "target_ongoing_requests": limits.gateways.target_requests,
            "downscale_delay_s": limits.scale_down_s,
        },
        ray_actor_options={"num_cpus": _LIGHT_CPUS},
        **graceful,
    )
    served = ModelResponse(id=model.name, version=model.version)
    return gateway.bind(config, served, characters, generator, jobs, status, stories, administration)


def start(config: Config, model_uri: str | None = None, registry: str = REGISTRY) -> str:
    """Serve on this machine, on the running Ray or a new one; returns the URL when all deployments are ready.

    Raises:
        ConfigError: the host is reachable from the network, API keys are off, and
            ``serving.access.open_to_network`` is not set.
        RegistryError: the model, version or alias does not exist.
    """
    require_authentication(config, config.serving.host)
    application = bind_deployments(config, model_uri, registry)
    port = config.serving.port or _free_port(config.serving.host)
    start_ray()
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": config.serving.host, "port": port, "request_timeout_s": config.serving.proxy_timeout_s},
    )
    serve.run(application, name=NAME, route_prefix="/")
    host = "127.0.0.1" if config.serving.host == "0.0.0.0" else config.serving.host
    return f"http://{host}:{port}"


def start_ray() -> None:
    """Use the running Ray, or start one on this machine."""
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)


def stop() -> None:
    """Shut Serve down; Ray keeps running."""
    serve.shutdown()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
