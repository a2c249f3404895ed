"""Time and memory of all stages at full size, with random weights, and of generation compared with other methods.

    python -m benchmarks.fullsize --json

Prints the rehearsal of this commit (``realcustom rehearse --preset sdxl``, and ``--only encodings``), and first runs
what it lacks. Generation: 512 x 512 pixels, 8 steps; default and stock take turns step by step for three rounds, the
other methods run once.
docs/explanation/performance.md defines the figures. ``--json`` prints one object on the last line.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.alternating import compare_at_full_size
from components.files import write_whole
from components.progress import quiet_libraries
from components.registry.tracking import git_commit
from components.rehearsal.run import report_file
from components.rehearsal.settings import FULL
from components.rehearsal.stages import EXTRA
from workflows import rehearse
from workflows.entry import one_line_errors

#: Values of the stages that belong to the summary.
_FIGURES = (
    "train_peak_gb",
    "prepare_rows_per_min",
    "ready_s",
    "first_over_second",
    "partner_views",
    "resumed_equal",
)


def main(
    output: Annotated[Path, typer.Option(help="Directory of the rehearsal.")] = Path("runs/rehearsal"),
    weights: Annotated[Path | None, typer.Option(help="Directory of random weights; written once.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of generation.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Print the figures of this commit at full size."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    quiet_libraries()
    with one_line_errors():
        rehearse.run(FULL, output, weights)
        compared = _comparison(output / FULL, weights or output / "weights", threads)
        report = rehearse.run(FULL, output, weights, only=tuple(EXTRA))
    figures: dict[str, Any] = {name: report.values.get(name) for name in _FIGURES}
    figures |= {name: compared[name] for name in ("ours_over_stock", "spread")}
    sizes = {name: value for name, value in report.values.items() if name.startswith("row_mb.")}
    figures["row_mb"] = {name.removeprefix("row_mb."): value for name, value in sizes.items()}
    stages = {name: stage.model_dump() for name, stage in report.stages.items()}
    print(json.dumps(figures, indent=1))
    if as_json:
        print(json.dumps(figures | {"machine": report.machine, "stages": stages, "generation": compared}))


def _comparison(root: Path, weights: Path, threads: int) -> dict[str, Any]:
    """The comparison of this commit, measured now if it is not stored."""
    file = report_file(root, git_commit()).with_suffix(".generation.json")
    if not file.exists():
        write_whole(file, json.dumps(compare_at_full_size(weights, threads), indent=1))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    typer.run(main)
