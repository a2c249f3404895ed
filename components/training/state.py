"""Training state on disk: tensors in safetensors, the rest in JSON, visible only when complete.

Nothing random is saved: batches and noise are drawn from generators seeded by the step, so a resumed run draws what an
uninterrupted one would have drawn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.files import replacing


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The CPU generator of one training step on one rank."""
    mixed = (seed * 1_000_003 + step) * 1_009 + rank
    return torch.Generator().manual_seed(mixed % (2**63))


def save_state(
    directory: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write ``modules``, ``optimizer`` and ``progress`` to ``directory``, replacing what was there in one rename."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}|{key}": value.detach().contiguous().clone() for key, value in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer|{index}|{slot}": torch.as_tensor(value).clone() for slot, value in slots.items()}
    with replacing(directory) as staging:
        save_file(tensors, staging / "state.safetensors")
        (staging / "progress.json").write_text(json.dumps(progress))


def load_state(directory: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill ``modules`` and ``optimizer`` from ``directory`` and return the saved progress."""
    tensors = load_file(directory / "state.safetensors")
    for name, module in modules.items():
        _fill(module, name, tensors)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer|"):
            _, index, slot = key.split("|")
            slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    progress: dict[str, Any] = json.loads((directory / "progress.json").read_text())
    return progress


def load_module(directory: Path, name: str, module: nn.Module) -> None:
    """Fill one ``module`` that was saved as ``name``."""
    _fill(module, name, load_file(directory / "state.safetensors"))


def _fill(module: nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    prefix = f"{name}|"
    module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
