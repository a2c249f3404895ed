"""Training state on disk: tensors in safetensors, the rest in JSON, visible only when complete.

No random state is saved: batches and noise are drawn from generators seeded by the step, so a resumed run repeats what
an uninterrupted one would draw. Sharded parameters are saved whole, so a run may continue with another number of
workers, or another kind of sharding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from components.errors import ArtifactError
from components.files import replacing
from components.tensor_files import TensorFile, write_tensors, writing_order

_TENSORS, _PROGRESS = "state.safetensors", "progress.json"


def step_generator(seed: int, step: int, lane: int = 0) -> torch.Generator:
    """The CPU generator of one training step, and of one of its lanes."""
    mixed = (seed * 1_000_003 + step) * 1_009 + lane
    return torch.Generator().manual_seed(mixed % (2**63))


def save_state(
    directory: Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
    write: bool = True,
) -> None:
    """Write the state of a training tensor by tensor, replacing the content of ``directory`` by one rename.

    Args:
        write: whether this worker writes. Where parameters are sharded, every worker must call, and one writes.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}|{key}": value for key, value in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer|{index}|{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    if write:
        write_state(directory, tensors, progress)
        return
    for name in writing_order(tensors):
        whole_tensor(tensors[name])


def write_state(directory: Path, tensors: Mapping[str, Tensor], progress: dict[str, Any]) -> None:
    """Write ``tensors``, gathered one by one where they are sharded, and ``progress`` to ``directory``."""
    with replacing(directory) as staging:
        write_tensors(staging / _TENSORS, tensors, lambda name: whole_tensor(tensors[name]))
        (staging / _PROGRESS).write_text(json.dumps(progress))


def load_state(directory: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill ``modules`` and ``optimizer`` from ``directory`` and return the saved progress."""
    file = TensorFile(directory / _TENSORS)
    for name, module in modules.items():
        _fill(module, name, file)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key in writing_order(file.layout):
        if key.startswith("optimizer|"):
            _, index, slot = key.split("|")
            parameter, value = parameters[int(index)], file.read(key)
            slots.setdefault(int(index), {})[slot] = _like(parameter, value) if value.dim() else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_progress(directory)


def read_progress(directory: Path) -> dict[str, Any]:
    """The progress that was saved with the tensors."""
    progress: dict[str, Any] = json.loads((directory / _PROGRESS).read_text())
    return progress


def load_module(directory: Path, name: str, module: nn.Module) -> None:
    """Fill one ``module`` that was saved as ``name``."""
    _fill(module, name, TensorFile(directory / _TENSORS))


def copy_module(directory: Path, name: str, kept: Path, progress: dict[str, Any]) -> None:
    """Copy one module of a saved state to ``kept``, with its own ``progress``."""
    file = TensorFile(directory / _TENSORS)
    layout = {key: value for key, value in file.layout.items() if key.startswith(f"{name}|")}
    with replacing(kept) as staging:
        write_tensors(staging / _TENSORS, layout, file.read)
        (staging / _PROGRESS).write_text(json.dumps(progress))


def whole_tensor(tensor: Tensor) -> Tensor:
    """A copy on the CPU; where ``tensor`` is sharded, every worker must call."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().to("cpu", copy=True).contiguous()


@torch.no_grad()
def _fill(module: nn.Module, name: str, file: TensorFile) -> None:
    """Copy the tensors of ``name`` into ``module``, one by one."""
    prefix, state = f"{name}|", module.state_dict()
    saved = {key.removeprefix(prefix) for key in file.layout if key.startswith(prefix)}
    if different := sorted(saved ^ state.keys()):
        raise ArtifactError(
            f"{file.file} is the state of another model: {different[0]} is in one of them only. Train into another "
            "directory, or under another name"
        )
    for key, target in state.items():
        if file.layout[prefix + key].shape != target.shape:
            raise ArtifactError(f"{file.file} is the state of another model: {key} has another shape")
        target.copy_(_like(target, file.read(prefix + key)))


def _like(target: Tensor, whole: Tensor) -> Tensor:
    """``whole``, sharded as ``target`` is."""
    if not isinstance(target, DTensor):
        return whole
    return distribute_tensor(whole.to(target.device), target.device_mesh, target.placements)
