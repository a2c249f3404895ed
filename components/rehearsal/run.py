"""Runs the stages of a rehearsal that its report lacks."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]
import torch

from components.errors import ArtifactError
from components.rehearsal.head_node import HeadNode
from components.rehearsal.process_memory import watch_memory
from components.rehearsal.report import Report, StageReport, Value, find_report
from components.rehearsal.settings import FULL, Places, rehearsal_config, settings_mark, write_settings
from components.rehearsal.stages import EXTRA, TRAIN_WORKER, Rehearsal, stages, write_inputs

logger = logging.getLogger(__name__)
#: Disk space and memory that a rehearsal at full size needs, in bytes: datasets, checkpoints and adapters; a training
#: worker beside Ray.
_DISK, _MEMORY = 45 * 10**9, 20 * 10**9


def rehearse(
    preset: str,
    places: Places,
    commit: str,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    show: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Run the stages that the report of ``commit`` lacks, each on one head node; returns the report.

    Args:
        only: names of the stages that may be run; all but the extra ones by default.
        show: called after each stage.

    Raises:
        ArtifactError: there is too little disk space or memory for a rehearsal at full size.
        RealCustomError: a stage failed; those before it stay in the report.
    """
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    cpus = os.cpu_count() or 1
    config = rehearsal_config(preset, places, device, cpus, overrides)
    fresh = Report(commit=commit, preset=preset, settings=settings_mark(config, cpus), machine=machine(device))
    file = report_file(places.root, commit)
    report = find_report(file, fresh)
    missing = {
        name: stage
        for name, stage in (stages(preset == FULL) | {name: EXTRA[name] for name in only if name in EXTRA}).items()
        if name not in report.stages and (not only or name in only)
    }
    if not missing:
        return report
    if preset == FULL:
        check_room(places.root, places.weights)
    write_settings(config, places.settings)
    node = HeadNode(places.log, max(cpus, 4), int(device == "cuda"))
    with node.running():
        for name, stage in missing.items():
            logger.info("rehearsal: %s", name)
            began = time.monotonic()
            with watch_memory(node.marker) as peak:
                values = dict(stage(Rehearsal(config, places, node)))
            if name == "train":
                values["train_peak_gb"] = max(
                    (gb for process, gb in peak.processes.items() if process.startswith(TRAIN_WORKER)), default=0.0
                )
            report.stages[name] = StageReport(
                seconds=round(time.monotonic() - began, 1),
                peak_gb=round(peak.total_gb, 2),
                processes=peak.largest,
                values=values,
            )
            report.save(file)
            show(report)
    return report


def make_inputs(preset: str, places: Places, device: Literal["cpu", "cuda"]) -> None:
    """Write the inputs of a rehearsal, random weights among them, without a head node. What is there is kept.

    Raises:
        ArtifactError: there is too little disk space or memory for the weights.
    """
    config = rehearsal_config(preset, places, device, os.cpu_count() or 1, ())
    write_inputs(Rehearsal(config, places, HeadNode(places.log, 1, 0)))


def report_file(root: Path, commit: str) -> Path:
    """The report of ``commit``."""
    return root / f"{commit}.json"


def check_room(root: Path, weights: Path) -> None:
    """Refuse to begin where disk or memory would not suffice.

    Raises:
        ArtifactError: they do not; weights that are not there yet are checked when they are written.
    """
    root.mkdir(parents=True, exist_ok=True)
    weights.mkdir(parents=True, exist_ok=True)
    held = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())  # by a rehearsal that is resumed
    disk, memory = shutil.disk_usage(root).free + held, psutil.virtual_memory().total
    if disk < _DISK:
        raise ArtifactError(
            f"a rehearsal at full size takes {_DISK / 1e9:.0f} GB beside the weights, and {root} has "
            f"{disk / 1e9:.0f} GB: choose another --output"
        )
    if memory < _MEMORY:
        raise ArtifactError(
            f"a rehearsal at full size takes {_MEMORY / 1e9:.0f} GB of memory, and this machine has "
            f"{memory / 1e9:.0f} GB: rehearse --preset tiny"
        )


def machine(device: str) -> dict[str, Value]:
    """The machine that the figures are of."""
    return {
        "cores": os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }
