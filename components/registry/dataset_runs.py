"""Prepared datasets in MLflow: outputs of preparation runs and inputs of training runs, linked by fingerprint."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException

from components.config import Config
from components.data.manifest import Manifest
from components.registry import tracking

#: Tag of a preparation run: the fingerprint of its dataset.
_TAG = "dataset"
#: Short timeouts of MLflow, whose default is four minutes: a failure to log is not an error here.
_SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def log_dataset(
    store: MlflowClient, run_id: str, directory: Path, manifest: Manifest, context: Literal["preparation", "training"]
) -> None:
    """Log the dataset in ``directory`` as an input of a run."""
    described = {**manifest.columns, **{f"references.{name}": kind for name, kind in manifest.references.items()}}
    columns = [{"name": name, "type": kind, "required": True} for name, kind in described.items()]
    profile = {"num_rows": manifest.rows_out, "rows_in": manifest.rows_in, "rows_rejected": manifest.rows_rejected}
    dataset = Dataset(
        name=directory.name,
        digest=manifest.fingerprint,
        source_type="local",
        source=json.dumps({"uri": directory.absolute().as_uri()}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(profile | {"splits": manifest.splits, "buckets": manifest.buckets}),
    )
    store.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])


def record_preparation(config: Config, directory: Path, manifest: Manifest) -> str:
    """The id of the preparation run of the dataset in ``directory``, which is created if missing.

    Raises:
        RegistryError: MLflow cannot be reached, or its store cannot be written.
    """
    try:
        with _short_timeouts():
            store = tracking.client(config.registry)
            experiment = tracking.experiment_id(config.registry, store)
            found = store.search_runs([experiment], f"tags.{_TAG} = '{manifest.fingerprint}'", max_results=1)
            return found[0].info.run_id if found else _record(store, config, directory, manifest)
    except (MlflowException, OSError) as error:
        raise tracking.refusal(config.registry, error) from None


def _record(store: MlflowClient, config: Config, directory: Path, manifest: Manifest) -> str:
    counts = {name: getattr(manifest, name) for name in ("rows_in", "rows_out", "rows_rejected")}
    source = {"source": str(config.data.source), "format": config.data.format}
    with tracking.run(config, "prepare", source, store) as run_id:
        store.set_tag(run_id, _TAG, manifest.fingerprint)
        for name, value in counts.items():
            store.log_metric(run_id, name, value)
        store.log_dict(run_id, manifest.model_dump(mode="json"), "manifest.json")
        log_dataset(store, run_id, directory, manifest, "preparation")
    return run_id


@contextmanager
def _short_timeouts() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _SHORT_TIMEOUTS}
    os.environ.update({name: value for name, value in _SHORT_TIMEOUTS.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
