"""A tracker that records its calls in a file, from the driver and from workers alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from components.errors import RegistryError
from components.training.tracker import MetricPoint


class RecordingTracker:
    """Appends every call to ``file``. While a file of that name with the suffix ``.down`` exists, every call fails."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._record("created")

    @property
    def factory(self) -> Callable[[], RecordingTracker]:
        return partial(RecordingTracker, self._file)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """All calls of all processes, in order: ``call``, ``process`` and the arguments."""
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def names(self) -> list[str]:
        return [call["call"] for call in self.calls]

    def start_run(self, name: str, parameters: Mapping[str, Any], dataset: Path) -> str:
        self._record("start_run", name=name, parameters=dict(parameters), dataset=str(dataset))
        return f"run of {name}"

    def resume_run(self, run_id: str) -> None:
        self._record("resume_run", run_id=run_id)

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        self._record("log_metrics", run_id=run_id, points=[point._asdict() for point in points])

    def log_artifact(self, run_id: str, file: Path, folder: str) -> None:
        self._record("log_artifact", run_id=run_id, file=file.name, folder=folder)

    def log_figure(self, run_id: str, figure: Figure, path: str) -> None:
        self._record("log_figure", run_id=run_id, path=path)

    @contextmanager
    def system_metrics(self, run_id: str) -> Iterator[None]:
        self._record("system_metrics", run_id=run_id)
        yield

    def finish_run(self, run_id: str) -> None:
        self._record("finish_run", run_id=run_id)

    def fail_run(self, run_id: str) -> None:
        self._record("fail_run", run_id=run_id)

    def _record(self, call: str, **arguments: Any) -> None:
        if self._file.with_suffix(".down").exists():
            raise RegistryError("the store is down")
        with self._file.open("a") as stream:
            stream.write(json.dumps({"call": call, "process": os.getpid(), **arguments}) + "\n")
