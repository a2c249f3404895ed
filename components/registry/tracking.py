"""MLflow runs: the store, the experiment with its artifact root, and the run a workflow logs to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from components.config import PACKAGE_ROOT, Config, RegistryConfig


def client(registry: RegistryConfig) -> MlflowClient:
    """A client of the configured store; an SQLite file's directory is made if needed."""
    uri = registry.absolute_uri
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


def experiment_id(registry: RegistryConfig) -> str:
    """The configured experiment, made on first use.

    It is made here, on the driver, with an explicit artifact root: a worker would take its own working directory.
    """
    store = client(registry)
    found = store.get_experiment_by_name(registry.experiment)
    if found is not None:
        return str(found.experiment_id)
    served = registry.absolute_uri.startswith("http")
    root = None if served else registry.artifacts.absolute().as_uri()
    return str(store.create_experiment(registry.experiment, artifact_location=root))


@contextmanager
def run(config: Config, name: str, parameters: dict[str, Any]) -> Iterator[str]:
    """A run for the length of the block, marked FAILED if it raises; yields the run id."""
    store = client(config.registry)
    started = store.create_run(experiment_id(config.registry), run_name=name)
    run_id = started.info.run_id
    store.set_tag(run_id, "git_commit", git_commit())
    store.log_dict(run_id, config.model_dump(mode="json"), "config.json")
    for key, value in parameters.items():
        store.log_param(run_id, key, value)
    try:
        yield run_id
    except BaseException:
        store.set_terminated(run_id, "FAILED")
        raise
    store.set_terminated(run_id, "FINISHED")


def git_commit() -> str:
    """The checkout's commit, with ``-dirty`` after it where files changed; ``unknown`` outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
