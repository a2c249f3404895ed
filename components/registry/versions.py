"""Versions of the adapter in the MLflow model registry: registered by directory, found by alias."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from components.config import Config
from components.errors import RegistryError
from components.model.pipeline import RealCustomPipeline
from components.registry import tracking

_URI = re.compile(r"^models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))$")


@dataclass(frozen=True)
class ModelVersion:
    """One registered adapter: its local directory and the tags it was registered with."""

    name: str
    version: str
    path: Path
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


def register(config: Config, adapter: Path, run_id: str, tags: dict[str, str]) -> ModelVersion:
    """Log the ``adapter`` directory to its run and make it a new version of ``config.registry.model``."""
    store = tracking.client(config.registry)
    store.log_artifacts(run_id, str(adapter), "adapter")
    name = config.registry.model
    if not store.search_registered_models(f"name='{name}'"):
        store.create_registered_model(name, description="RealCustom adapter: projector and vision keys/values")
    source = f"{store.get_run(run_id).info.artifact_uri}/adapter"
    created = store.create_model_version(name, source=source, run_id=run_id, tags=tags)
    return ModelVersion(name, str(created.version), adapter, tags)


def set_alias(config: Config, version: ModelVersion, alias: str | None = None) -> None:
    """Point ``alias`` (the configured one by default) at ``version``."""
    store = tracking.client(config.registry)
    store.set_registered_model_alias(version.name, alias or config.registry.alias, version.version)


def resolve(config: Config, uri: str) -> ModelVersion:
    """Find ``models:/name@alias`` or ``models:/name/version`` and bring its files here.

    Raises:
        RegistryError: the URI is malformed, or the model, version or alias is unknown.
    """
    match = _URI.match(uri)
    if match is None:
        raise RegistryError(f"model URI {uri!r}: write it as models:/name@alias or models:/name/version")
    store = tracking.client(config.registry)
    try:
        if match["alias"]:
            found = store.get_model_version_by_alias(match["name"], match["alias"])
        else:
            found = store.get_model_version(match["name"], match["version"])
    except MlflowException:
        raise RegistryError(
            f"{uri} is not in the registry {config.registry.tracking_uri}: train and register it"
        ) from None
    path = Path(
        mlflow.artifacts.download_artifacts(artifact_uri=found.source, tracking_uri=config.registry.absolute_uri)
    )
    return ModelVersion(found.name, str(found.version), path, dict(found.tags))


def find_by_tag(config: Config, tag: str, value: str) -> ModelVersion | None:
    """The newest version of the configured model whose ``tag`` is ``value``."""
    store = tracking.client(config.registry)
    found = store.search_model_versions(f"name='{config.registry.model}' and tags.{tag}='{value}'")
    newest = max(found, key=lambda v: int(v.version), default=None)
    return None if newest is None else resolve(config, f"models:/{newest.name}/{newest.version}")


def load_pipeline(config: Config, uri: str) -> RealCustomPipeline:
    """The pipeline of ``config.model`` with the registered adapter ``uri`` names."""
    return RealCustomPipeline.from_config(config, adapter=str(resolve(config, uri).path))


def newest(config: Config) -> ModelVersion:
    """The version of the configured model that was registered last."""
    store = tracking.client(config.registry)
    found = store.search_model_versions(f"name='{config.registry.model}'")
    if not found:
        raise RegistryError(f"registry.model {config.registry.model!r} has no version: train and register one")
    return resolve(config, f"models:/{config.registry.model}/{max(int(v.version) for v in found)}")
