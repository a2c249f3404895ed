"""The report of a rehearsal: a JSON file named by the commit, from which an interrupted rehearsal goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.table import Table

from components.files import write_whole

logger = logging.getLogger(__name__)
Value = float | bool | str


class StageReport(BaseModel):
    """What a finished stage took.

    Args:
        seconds: wall-clock time.
        peak_gb: largest sum of the private and shared memory of all processes of the rehearsal.
        processes: largest resident memory in GB of single processes, by name.
        values: what else the stage measured.
    """

    model_config = ConfigDict(extra="forbid")

    seconds: float
    peak_gb: float
    processes: dict[str, float] = {}
    values: dict[str, Value] = {}


class Report(BaseModel):
    """A whole rehearsal. ``settings`` is the fingerprint of its configuration."""

    model_config = ConfigDict(extra="forbid")

    commit: str
    preset: str
    settings: str
    machine: dict[str, Value]
    stages: dict[str, StageReport] = {}

    @property
    def values(self) -> dict[str, Value]:
        """The values of all stages."""
        return {name: value for stage in self.stages.values() for name, value in stage.values.items()}

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, self.model_dump_json(indent=1))

    def table(self, names: Iterable[str]) -> Table:
        """Seconds and memory of the stages ``names``."""
        table = Table("stage", "seconds", "peak GB", "largest process", "measured")
        for name in names:
            if (stage := self.stages.get(name)) is None:
                table.add_row(name, "", "", "", "not run")
                continue
            largest = max(stage.processes.items(), key=lambda each: each[1], default=("", 0.0))
            values = ", ".join(f"{key} {_shown(value)}" for key, value in stage.values.items())
            table.add_row(
                name, f"{stage.seconds:.0f}", f"{stage.peak_gb:.1f}", f"{largest[0]} {largest[1]:.1f}", values
            )
        return table


def find_report(file: Path, fresh: Report) -> Report:
    """The report that ``file`` holds, if it is of the same commit, preset and settings as ``fresh``; else ``fresh``."""
    try:
        found = Report.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return fresh
    if (found.commit, found.preset, found.settings) == (fresh.commit, fresh.preset, fresh.settings):
        return found
    logger.info("%s is of other settings, and is replaced", file)
    return fresh


def _shown(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
