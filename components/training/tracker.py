"""The experiment tracker as training sees it: a protocol. The caller of `train` supplies the implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from matplotlib.figure import Figure


class MetricPoint(NamedTuple):
    """One value of a metric; ``time`` in milliseconds since 1970."""

    name: str
    value: float
    step: int
    time: int


class Tracker(Protocol):
    """A store of runs. A process has one; `factory` makes it in another process.

    Every method but `factory` and `system_metrics` raises `RegistryError` when the store cannot be used.
    """

    @property
    def factory(self) -> TrackerFactory:
        """Makes an equal tracker in a worker process. It can be serialized."""

    def start_run(self, name: str, parameters: Mapping[str, Any], dataset: Path) -> str:
        """Create a run with its parameters, its prepared dataset and its origin; returns the run's id."""

    def resume_run(self, run_id: str) -> None:
        """Mark a run as running again."""

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Log values. Logging the same point again changes nothing."""

    def log_artifact(self, run_id: str, file: Path, folder: str) -> None:
        """Upload ``file`` into ``folder`` of the run's artifacts. Uploading it again changes nothing."""

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        """Upload a plot as ``path`` of the run's artifacts."""

    def system_metrics(self, run_id: str) -> AbstractContextManager[None]:
        """Log this machine's load for the length of the block; a store that fails does not fail the block."""

    def finish_run(self, run_id: str) -> None:
        """Plot the run's metrics and mark it as finished."""

    def fail_run(self, run_id: str) -> None:
        """Mark a run as failed."""


TrackerFactory = Callable[[], Tracker]
