"""Time and memory of all stages at full size, with random weights, and of generation compared with other methods.

    python -m benchmarks.fullsize --json

    python -m benchmarks.fullsize --device cuda --json

Prints the rehearsal of this commit (``realcustom rehearse --preset sdxl``, and ``--only encodings``), and first runs
what it lacks. Generation: default and stock take turns step by step for three rounds, the other methods run once; on a
processor 512 x 512 pixels and 8 steps, on a GPU 1024 x 1024 and 25. On a GPU only the stages up to a longer training
are run, which takes minutes. docs/explanation/performance.md defines the figures. ``--json`` prints one object on the
last line.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from benchmarks.alternating import compare_at_full_size
from components.config import load_config
from components.errors import ConfigError
from components.files import write_whole
from components.progress import quiet_libraries
from components.registry.tracking import git_commit
from components.rehearsal.run import report_file
from components.rehearsal.settings import FULL
from components.rehearsal.stages import EXTRA
from workflows import rehearse
from workflows.entry import one_line_errors

#: Side of the latents and steps of generation.
_GENERATION = {"cpu": (64, 8), "cuda": (128, 25)}
#: What is run on a GPU, and the length of its training.
_GPU_STAGES = ("inputs", "convert", "register", "prepare", "train")
_GPU_SETTINGS = ("training.steps=40", "training.checkpoint_every=40")
#: Values of the stages that belong to the summary.
_FIGURES = (
    "train_peak_gb",
    "prepare_rows_per_min",
    "ready_s",
    "new_character_s",
    "first_over_second",
    "partner_views",
    "resumed_equal",
    "train_samples_per_s",
    "train_memory_gib",
)


def main(
    output: Annotated[Path, typer.Option(help="Directory of the rehearsal.")] = Path("runs/rehearsal"),
    weights: Annotated[Path | None, typer.Option(help="Directory of random weights; written once.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; a GPU if there is one by default.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of generation.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Print the figures of this commit at full size."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    quiet_libraries()
    with one_line_errors():
        device = _device(device)
        only, settings = (_GPU_STAGES, _GPU_SETTINGS) if device == "cuda" else ((), ())
        report = rehearse.run(FULL, output, weights, settings, only)
        if device == "cpu":
            report = rehearse.run(FULL, output, weights, only=tuple(EXTRA))
        compared = _comparison(output / FULL, weights or output / "weights", threads, device)  # keeps a U-Net in memory
    figures: dict[str, Any] = {name: report.values.get(name) for name in _FIGURES}
    figures |= {name: compared[name] for name in ("ours_over_stock", "spread", "images_per_s")}
    sizes = {name: value for name, value in report.values.items() if name.startswith("row_mb.")}
    figures["row_mb"] = {name.removeprefix("row_mb."): value for name, value in sizes.items()}
    figures["row_mb"] = figures["row_mb"] or {load_config(FULL).data.encode: report.values["row_mb"]}
    stages = {name: stage.model_dump() for name, stage in report.stages.items()}
    print(json.dumps(figures, indent=1))
    if as_json:
        print(json.dumps(figures | {"machine": report.machine, "stages": stages, "generation": compared}))


def _device(asked: str) -> str:
    """The device to run on; that of the rehearsal follows.

    Raises:
        ConfigError: there is no such device.
    """
    if asked not in ("", *_GENERATION):
        raise ConfigError(f"--device {asked}: choose cpu or cuda")
    if asked == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if asked not in ("", found):
        raise ConfigError(f"--device {asked}: torch finds no GPU here")
    return found


def _comparison(root: Path, weights: Path, threads: int, device: str) -> dict[str, Any]:
    """The comparison of this commit, measured now if it is not stored."""
    file = report_file(root, git_commit()).with_suffix(f".generation.{device}.json")
    if not file.exists():
        latent, steps = _GENERATION[device]
        measured = compare_at_full_size(weights, threads, device, latent, steps)
        seconds = median(each["default"] for each in measured["rounds"])
        write_whole(file, json.dumps(measured | {"images_per_s": 1 / seconds}, indent=1))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    typer.run(main)
