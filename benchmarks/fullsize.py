"""Time and memory of all stages at full size, with random weights, and of generation compared with other methods.

    python -m benchmarks.fullsize --json

    python -m benchmarks.fullsize --device cuda --json

    python -m benchmarks.fullsize --only comparison --json

Prints what was measured with this version of the code, and first runs what is missing, in three parts: ``rehearsal``
(``realcustom rehearse --preset sdxl``), ``encodings`` (the same, ``--only encodings``; on a GPU only if it is named)
and ``comparison`` of generation, without Ray: default and stock take turns step by step for three rounds, the other
methods run once, and a whole call; on a processor 512 x 512 pixels and 8 steps, on a GPU 1024 x 1024 and 25. On a GPU
only the stages up to a longer training are run, at the preset's batch size, which takes minutes.
docs/explanation/performance.md defines the figures. ``--json`` prints one object on the last line.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from benchmarks.alternating import compare_at_full_size
from components.config import load_config
from components.errors import ConfigError
from components.files import write_whole
from components.progress import quiet_libraries
from components.rehearsal.code_version import code_version
from components.rehearsal.report import Report
from components.rehearsal.run import make_inputs, report_file
from components.rehearsal.settings import FULL, Places
from components.rehearsal.stages import EXTRA
from workflows import rehearse
from workflows.entry import one_line_errors

Device = Literal["cpu", "cuda"]
#: Side of the latents and steps of generation.
_GENERATION = {"cpu": (64, 8), "cuda": (128, 25)}
#: What is run on a GPU, and the length of its training.
_GPU_STAGES = ("inputs", "convert", "register", "prepare", "train")
_GPU_SETTINGS = ("training.steps=40", "training.checkpoint_every=40")
#: What the stage of `EXTRA` needs of the others.
_BEFORE_EXTRA = ("inputs", "convert")
_PARTS = ("rehearsal", "encodings", "comparison")
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
#: Those of the comparison.
_COMPARED = ("ours_over_stock", "spread", "images_per_s", "generation_memory_gib")


def main(
    output: Annotated[Path, typer.Option(help="Directory of the rehearsal.")] = Path("runs/rehearsal"),
    weights: Annotated[Path | None, typer.Option(help="Directory of random weights; written once.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; a GPU if there is one by default.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of generation.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(_PARTS)}, only these. Repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
) -> None:
    """Print the figures of this version of the code at full size."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    quiet_libraries()
    with one_line_errors():
        parts, chosen = _parts(only or ()), _device(device)
        places = Places(output / FULL, weights or output / "weights")
        figures: dict[str, Any] = {}
        details: dict[str, Any] = {}
        if "rehearsal" in parts or "encodings" in parts:
            report = _rehearsed(parts, bool(only), output, weights, chosen)
            figures = rehearsal_figures(report)
            stages = {name: stage.model_dump() for name, stage in report.stages.items()}
            details = {"machine": report.machine, "stages": stages}
        if "comparison" in parts:  # last: it keeps a U-Net in memory
            compared = _comparison(places, threads, chosen)
            figures |= {name: compared[name] for name in _COMPARED}
            details["generation"] = compared
    print(json.dumps(figures, indent=1))
    if as_json:
        print(json.dumps(figures | details))


def rehearsal_figures(report: Report) -> dict[str, Any]:
    """Those of `_FIGURES` that the report holds, and ``row_mb`` by way of encoding."""
    found: dict[str, Any] = {name: report.values[name] for name in _FIGURES if name in report.values}
    sizes = {name: value for name, value in report.values.items() if name.startswith("row_mb.")}
    ways = {name.removeprefix("row_mb."): value for name, value in sizes.items()}
    if not ways and "row_mb" in report.values:
        ways = {load_config(FULL).data.encode: report.values["row_mb"]}
    return found | ({"row_mb": ways} if ways else {})


def _rehearsed(parts: Collection[str], named: bool, output: Path, weights: Path | None, device: Device) -> Report:
    """The report, with what ``parts`` name; on a GPU ``encodings`` belongs to it only if parts are ``named``."""
    only, settings = ((), ()) if device == "cpu" else (_GPU_STAGES, gpu_settings())
    if "rehearsal" in parts:
        report = rehearse.run(FULL, output, weights, settings, only)
    if "encodings" in parts and (named or device == "cpu"):
        report = rehearse.run(FULL, output, weights, settings, (*_BEFORE_EXTRA, *EXTRA))
    return report


def gpu_settings() -> tuple[str, ...]:
    """Overrides of the rehearsal on a GPU: a longer training at the batch size of the preset."""
    return (*_GPU_SETTINGS, f"training.batch_size={load_config(FULL).training.batch_size}")


def _parts(only: Sequence[str]) -> Sequence[str]:
    """The parts to run.

    Raises:
        ConfigError: ``only`` names another one.
    """
    if unknown := sorted(set(only) - set(_PARTS)):
        raise ConfigError(f"--only {unknown[0]}: choose among {', '.join(_PARTS)}")
    return only or _PARTS


def _device(asked: str) -> Device:
    """The device to run on; that of the rehearsal follows.

    Raises:
        ConfigError: there is no such device.
    """
    if asked not in ("", *_GENERATION):
        raise ConfigError(f"--device {asked}: choose cpu or cuda")
    if asked == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    found: Device = "cuda" if torch.cuda.is_available() else "cpu"
    if asked not in ("", found):
        raise ConfigError(f"--device {asked}: torch finds no GPU here")
    return found


def _comparison(places: Places, threads: int, device: Device) -> dict[str, Any]:
    """The comparison of this version of the code, measured now if it is not stored."""
    file = report_file(places.root, code_version()).with_suffix(f".generation.{device}.json")
    if not file.exists():
        make_inputs(FULL, places, device)
        latent, steps = _GENERATION[device]
        measured = compare_at_full_size(places.weights, threads, device, latent, steps)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(measured, indent=1))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    typer.run(main)
