"""Training state on disk: tensors in safetensors, the rest in JSON, visible only when complete.

No random state is saved: batches and noise are drawn from generators seeded by the step, so a resumed run repeats what
an uninterrupted one would draw. Sharded parameters are saved whole, so a run may continue with another number of
workers, or another kind of sharding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from components.files import replacing

_TENSORS, _PROGRESS = "state.safetensors", "progress.json"


def step_generator(seed: int, step: int, lane: int = 0) -> torch.Generator:
    """The CPU generator of one training step, and of one of its lanes."""
    mixed = (seed * 1_000_003 + step) * 1_009 + lane
    return torch.Generator().manual_seed(mixed % (2**63))


def gather_state(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A copy of all tensors of ``modules`` and ``optimizer``, whole, on the CPU.

    Where they are sharded, every worker must call it.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}|{key}": whole_tensor(value) for key, value in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer|{index}|{slot}": whole_tensor(torch.as_tensor(value)) for slot, value in slots.items()}
    return tensors


def write_state(directory: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Write the result of `gather_state` to ``directory``, replacing its content by one rename."""
    with replacing(directory) as staging:
        save_file(tensors, staging / _TENSORS)
        (staging / _PROGRESS).write_text(json.dumps(progress))


def save_state(
    directory: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Gather and write the state of a training that is not distributed."""
    write_state(directory, gather_state(modules, optimizer), progress)


def load_state(directory: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill ``modules`` and ``optimizer`` from ``directory`` and return the saved progress."""
    tensors = load_file(directory / _TENSORS)
    for name, module in modules.items():
        _fill(module, name, tensors)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer|"):
            _, index, slot = key.split("|")
            parameter = parameters[int(index)]
            slots.setdefault(int(index), {})[slot] = _like(parameter, value) if value.dim() else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_progress(directory)


def read_progress(directory: Path) -> dict[str, Any]:
    """The progress that was saved with the tensors."""
    progress: dict[str, Any] = json.loads((directory / _PROGRESS).read_text())
    return progress


def load_module(directory: Path, name: str, module: nn.Module) -> None:
    """Fill one ``module`` that was saved as ``name``."""
    _fill(module, name, _read_module(directory, name))


def copy_module(directory: Path, name: str, kept: Path, progress: dict[str, Any]) -> None:
    """Copy one module of a saved state to ``kept``, with its own ``progress``."""
    write_state(kept, _read_module(directory, name), progress)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A copy on the CPU; where ``tensor`` is sharded, every worker must call."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().to("cpu", copy=True).contiguous()


def _read_module(directory: Path, name: str) -> dict[str, Tensor]:
    """Read the tensors of one module only, a fraction of the state."""
    with safe_open(directory / _TENSORS, framework="pt") as saved:
        return {key: saved.get_tensor(key) for key in saved.keys() if key.startswith(f"{name}|")}  # noqa: SIM118


@torch.no_grad()
def _fill(module: nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    prefix = f"{name}|"
    ours = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    state = module.state_dict()
    module.load_state_dict({key: _like(state[key], value) if key in state else value for key, value in ours.items()})


def _like(target: Tensor, whole: Tensor) -> Tensor:
    """``whole``, sharded as ``target`` is."""
    if not isinstance(target, DTensor):
        return whole
    return distribute_tensor(whole.to(target.device), target.device_mesh, target.placements)
