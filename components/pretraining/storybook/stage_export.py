"""Export and import of an unfinished stage: weights in half precision, without optimizer state."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.checkpoint import read_progress, write_state

_PARTS = ("module|", "ema|")


def export_stage(checkpoint: Path, file: Path) -> int:
    """Write raw and averaged weights of ``checkpoint`` to ``file``; returns their step."""
    step: int = read_progress(checkpoint)["step"]
    with safe_open(checkpoint / "state.safetensors", framework="pt") as state:
        kept = {key: state.get_tensor(key) for key in state.keys() if key.startswith(_PARTS)}  # noqa: SIM118
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: _half(value) for key, value in kept.items()}, file, metadata={"step": str(step)})
    return step


def import_stage(file: Path, checkpoint: Path) -> int:
    """Make ``file`` the state that training resumes from, unless ``checkpoint`` exists; returns its step."""
    if (checkpoint / "progress.json").exists():
        return int(read_progress(checkpoint)["step"])
    with safe_open(file, framework="pt") as state:
        step = int((state.metadata() or {})["step"])
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in load_file(file).items()}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_state(checkpoint, tensors, {"step": step})
    return step


def _half(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.is_floating_point() else value
