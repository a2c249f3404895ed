"""MLflow: the client, the experiment with its artifact root, and runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from components.config import PACKAGE_ROOT, Config, RegistryConfig
from components.errors import ConfigError, RegistryError


def client(registry: RegistryConfig) -> MlflowClient:
    """A client of the configured store; the directory of an SQLite file is created.

    Raises:
        ConfigError: PostgreSQL's driver is not installed.
    """
    uri = registry.absolute_uri
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    elif uri.startswith("postgresql"):
        try:
            make_url(uri).get_dialect().import_dbapi()
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"registry.tracking_uri: the driver {error.name!r} is missing: install the extra 'postgres' "
                "and write postgresql+psycopg://…"
            ) from None
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


def experiment_id(registry: RegistryConfig, store: MlflowClient | None = None) -> str:
    """The configured experiment, created on first use.

    The driver creates it, with an explicit artifact root: MLflow's default is a worker's own working directory.

    Args:
        store: the process's client, where there is one.
    """
    store = store or client(registry)
    found = store.get_experiment_by_name(registry.experiment)
    if found is None:
        served = registry.absolute_uri.startswith("http")
        root = None if served else registry.artifacts.absolute().as_uri()
        with ignore_existing():
            return str(store.create_experiment(registry.experiment, artifact_location=root))
        found = store.get_experiment_by_name(registry.experiment)
    return str(found.experiment_id)


@contextmanager
def ignore_existing() -> Iterator[None]:
    """Ignore the error that another process has created the same object."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def is_missing(error: MlflowException) -> bool:
    """Whether ``error`` means that the object does not exist, rather than a failed request."""
    return error.error_code in map(ErrorCode.Name, (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE))


def refusal(registry: RegistryConfig, error: Exception) -> RegistryError:
    """The error for a user whose store cannot be used."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].replace(registry.tracking_uri, shown(registry))
    return RegistryError(f"registry.tracking_uri: {shown(registry)} cannot be used: {reason}")


def open_run(config: Config, name: str, parameters: Mapping[str, Any], store: MlflowClient | None = None) -> str:
    """Create a run with the commit of the code and the configuration; returns its id."""
    store = store or client(config.registry)
    run_id = str(store.create_run(experiment_id(config.registry, store), run_name=name).info.run_id)
    store.set_tag(run_id, "git_commit", git_commit())
    store.log_dict(run_id, without_passwords(config), "config.json")
    for key, value in parameters.items():
        store.log_param(run_id, key, value)
    return run_id


@contextmanager
def run(config: Config, name: str, parameters: Mapping[str, Any], store: MlflowClient | None = None) -> Iterator[str]:
    """`open_run` for the length of the block, marked FAILED if it raises; yields the run id."""
    store = store or client(config.registry)
    run_id = open_run(config, name, parameters, store)
    try:
        yield run_id
    except BaseException:
        store.set_terminated(run_id, "FAILED")
        raise
    store.set_terminated(run_id, "FINISHED")


def shown(registry: RegistryConfig) -> str:
    """The tracking URI without its password."""
    return _masked(registry.tracking_uri)


def without_passwords(config: Config) -> dict[str, Any]:
    """``config`` as JSON-serialisable values, without passwords in URLs."""
    plain = config.model_dump(mode="json")
    for section in plain.values():
        if isinstance(section, dict):
            section |= {key: _masked(value) for key, value in section.items() if isinstance(value, str)}
    return plain


def _masked(value: str) -> str:
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):  # no URL
        return value
    return value if url.password is None else url.render_as_string(hide_password=True)


def git_commit() -> str:
    """The commit of the checkout, with the suffix ``-dirty`` if files changed; ``unknown`` outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
