"""The files of a training run, on a disk that all nodes share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from components.files import write_whole


@dataclass(frozen=True)
class RunDirectory:
    """The files of one training.

    ::

        <root>/<name>/                  checkpoints, managed by Ray Train
        <root>/<name>.run               id of the tracker's run
        <root>/<name>.unconditional.safetensors   features of a black reference and an empty prompt, for all workers
        <root>/<name>.progress.json     step, number of steps and loss, for the progress bar
        <root>/<name>.journal.jsonl     metrics that are delivered to the tracker
        <root>/<name>.samples/          sample grids
        <root>/<name>.stop              exists while the workers are requested to save and stop
        <root>/<name>.not_finite/       the rows of a step whose gradient was not finite
        <root>/<name>-best/             state of the adapter with the lowest validation loss
        <root>/<name>-adapter/          the trained adapter; -best-adapter/: the best one
    """

    root: Path
    name: str

    def _file(self, ending: str) -> Path:
        return self.root / f"{self.name}{ending}"

    @property
    def run(self) -> Path:
        return self._file(".run")

    @property
    def unconditional(self) -> Path:
        return self._file(".unconditional.safetensors")

    @property
    def progress(self) -> Path:
        return self._file(".progress.json")

    @property
    def journal(self) -> Path:
        return self._file(".journal.jsonl")

    @property
    def samples(self) -> Path:
        return self._file(".samples")

    @property
    def stop(self) -> Path:
        return self._file(".stop")

    @property
    def not_finite(self) -> Path:
        return self._file(".not_finite")

    @property
    def best(self) -> Path:
        return self._file("-best")

    @property
    def adapter(self) -> Path:
        return self._file("-adapter")

    @property
    def best_adapter(self) -> Path:
        return self._file("-best-adapter")

    def write_progress(self, step: int, total: int, loss: float) -> None:
        write_whole(self.progress, json.dumps({"step": step, "total": total, "loss": loss}))
