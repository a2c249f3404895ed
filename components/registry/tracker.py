"""The MLflow implementation of `components.training.tracker.Tracker`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from components.config import Config, for_workers
from components.data.manifest import load_manifest
from components.registry import origin, tracking
from components.registry.dataset_runs import log_dataset
from components.registry.plots import log_curves
from components.registry.system_metrics import system_metrics
from components.training.tracker import MetricPoint


class MlflowTracker:
    """Runs in the configured MLflow store, through one client."""

    def __init__(self, config: Config) -> None:
        self._config = config
        #: The process's client, for what else writes to the same store.
        self.store = tracking.client(config.registry)

    @property
    def factory(self) -> Callable[[], MlflowTracker]:
        """Makes an equal tracker in a worker process: only the configuration is serialized."""
        return partial(MlflowTracker, for_workers(self._config))

    def start_run(self, name: str, parameters: Mapping[str, Any], dataset: Path) -> str:
        """Create a run with its parameters, its prepared dataset and its origin; returns the run's id."""
        with self._refused():
            run_id = tracking.open_run(self._config, name, parameters, self.store)
            log_dataset(self.store, run_id, dataset, load_manifest(dataset), "training")
            origin.tag_run(self.store, run_id, origin.origin(self._config, run_id, self.store))
        return run_id

    def resume_run(self, run_id: str) -> None:
        """Mark a run as running again."""
        with self._refused():
            self.store.set_terminated(run_id, "RUNNING")

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Log values in one request."""
        with self._refused():
            self.store.log_batch(run_id, [Metric(p.name, p.value, p.time, p.step) for p in points])

    def log_artifact(self, run_id: str, file: Path, folder: str) -> None:
        """Upload ``file`` into ``folder`` of the run's artifacts."""
        with self._refused():
            self.store.log_artifact(run_id, str(file), folder)

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        """Upload a plot as ``path`` of the run's artifacts."""
        with self._refused():
            self.store.log_figure(run_id, figure, path)

    def system_metrics(self, run_id: str) -> AbstractContextManager[None]:
        """Log this machine's load for the length of the block."""
        return system_metrics(self._config.registry, run_id)

    def finish_run(self, run_id: str) -> None:
        """Plot the run's metrics and mark it as finished."""
        with self._refused():
            log_curves(self.store, run_id)
            self.store.set_terminated(run_id, "FINISHED")

    def fail_run(self, run_id: str) -> None:
        """Mark a run as failed."""
        with self._refused():
            self.store.set_terminated(run_id, "FAILED")

    @contextmanager
    def _refused(self) -> Iterator[None]:
        """Turn errors of the store into a `RegistryError` that names the setting."""
        try:
            yield
        except (MlflowException, OSError) as error:
            raise tracking.refusal(self._config.registry, error) from error
