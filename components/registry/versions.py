"""Versions of the adapter in the MLflow model registry: registered by directory, found by alias."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.config import Config
from components.errors import RegistryError
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.registry import origin, package, tracking
from components.registry.fetch import fetch

#: Tag of a version: the sha256 of its list of checksums.
CHECKSUMS = "checksums"
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


def register(
    config: Config, adapter: Path, run_id: str, tags: dict[str, str], store: MlflowClient | None = None
) -> ModelVersion:
    """Log the ``adapter`` directory to its run and make it a new version of ``config.registry.model``.

    The version can be loaded by `mlflow.pyfunc.load_model` (`components.registry.package`), and has its own folder,
    which no other version overwrites. Version and run are tagged with their origin.

    Args:
        store: the process's client, where there is one.

    Raises:
        ArtifactError: ``adapter`` or ``config.model.base`` is a path that does not exist.
    """
    store = store or tracking.client(config.registry)
    made_from = origin.origin(config, run_id, store)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "model"
        digest = package.write_package(config, adapter, run_id, made_from[origin.BASE_IDENTITY], files)
        folder = f"model-{digest[:12]}"
        store.log_artifacts(run_id, str(files), folder)
    origin.tag_run(store, run_id, made_from)
    name = config.registry.model
    with tracking.ignore_existing():
        store.create_registered_model(name, description="RealCustom adapter: projector and vision keys/values")
    source = f"{store.get_run(run_id).info.artifact_uri}/{folder}"
    tags = made_from | {CHECKSUMS: digest} | tags
    created = store.create_model_version(name, source=source, run_id=run_id, tags=tags)
    return ModelVersion(name, str(created.version), adapter, tags)


def set_alias(config: Config, version: ModelVersion, alias: str | None = None) -> None:
    """Point ``alias`` (the configured one by default) at ``version``."""
    store = tracking.client(config.registry)
    store.set_registered_model_alias(version.name, alias or config.registry.alias, version.version)


def resolve(config: Config, uri: str) -> ModelVersion:
    """Find ``models:/name@alias`` or ``models:/name/version``, fetch its files and verify them.

    Raises:
        RegistryError: the URI is malformed, the model, version or alias is unknown, or a file is missing or changed.
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
    except MlflowException as error:
        if not tracking.is_missing(error):
            raise tracking.refusal(config.registry, error) from None
        shown = tracking.shown(config.registry)
        raise RegistryError(f"{uri} is not in the registry {shown}: train and register it") from None
    tags = dict(found.tags)
    path = package.adapter_directory(fetch(config.registry, found.source, tags.get(CHECKSUMS)))
    return ModelVersion(found.name, str(found.version), path, tags)


def find_by_tag(config: Config, tag: str, value: str) -> ModelVersion | None:
    """The newest version of the configured model whose ``tag`` is ``value``."""
    store = tracking.client(config.registry)
    found = store.search_model_versions(f"name='{config.registry.model}' and tags.{tag}='{value}'")
    newest = max(found, key=lambda v: int(v.version), default=None)
    return None if newest is None else resolve(config, f"models:/{newest.name}/{newest.version}")


def find_alias(config: Config, name: str, alias: str) -> str | None:
    """The version of the model ``name`` that ``alias`` points at, if any. Its files are not read.

    Raises:
        RegistryError: the registry cannot be reached.
    """
    try:
        return str(tracking.client(config.registry).get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if not tracking.is_missing(error):
            raise tracking.refusal(config.registry, error) from None
        return None


def load_pipeline(config: Config, uri: str, beside: RealCustomPipeline | None = None) -> RealCustomPipeline:
    """The pipeline of ``config.model`` with the registered adapter ``uri`` names.

    Args:
        beside: a pipeline of the same configuration, whose frozen weights are shared.

    Raises:
        RegistryError: there is no such version, or its files are invalid.
        ArtifactError: a model cannot be loaded, or the adapter was made for other encoders.
    """
    path = str(resolve(config, uri).path)
    if beside is None:
        return RealCustomPipeline.from_config(config, adapter=path)
    return beside.with_adapter(RealCustomAdapter.from_pretrained(path))


def newest(config: Config) -> ModelVersion:
    """The version of the configured model that was registered last."""
    store = tracking.client(config.registry)
    found = store.search_model_versions(f"name='{config.registry.model}'")
    if not found:
        raise RegistryError(f"registry.model {config.registry.model!r} has no version: train and register one")
    return resolve(config, f"models:/{config.registry.model}/{max(int(v.version) for v in found)}")
