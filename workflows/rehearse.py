"""Take the preset's models through all commands on a head node of their own, and report seconds and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from components.errors import ConfigError
from components.rehearsal.code_version import code_version
from components.rehearsal.report import Report
from components.rehearsal.run import rehearse, report_file
from components.rehearsal.settings import FULL, Places
from components.rehearsal.stages import EXTRA, stages


def run(
    preset: str,
    output: Path = Path("runs/rehearsal"),
    weights: Path | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Report:
    """Rehearse ``preset`` below ``output``, going on after the last finished stage of this version of the code.

    Args:
        weights: directory of random weights, which are written once; ``output``/weights by default.
        only: names of stages.

    Raises:
        ConfigError: ``only`` names an unknown stage.
    """
    names = [*stages(preset == FULL), *EXTRA]
    if unknown := sorted(set(only) - set(names)):
        raise ConfigError(f"--only {unknown[0]}: choose among {', '.join(names)}")
    places, commit = Places(output / preset, weights or output / "weights"), code_version()
    console = Console()
    report = rehearse(preset, places, commit, overrides, only, lambda done: console.print(done.table(names)))
    console.print(report.table(names))
    console.print(str(report_file(places.root, commit)), soft_wrap=True)
    return report


if __name__ == "__main__":
    from workflows.cli import app

    app()
