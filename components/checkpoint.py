"""Training state on disk: tensors in safetensors, the rest in JSON, visible only when complete.

::

    <state>/progress.json
    <state>/state.safetensors                   all tensors; or, where parameters are sharded among workers,
    <state>/state-00000-of-00002.safetensors    the first worker's rows of them, and so on

No random state is saved: batches and noise are drawn from generators seeded by the step, so a resumed run repeats what
an uninterrupted one would draw. A run may continue with another number of workers, or another kind of sharding: every
worker reads the rows that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from components.errors import ArtifactError
from components.files import adding_files, replacing
from components.tensor_files import TensorFile, write_tensors, writing_order

_TENSORS, _PROGRESS = "state.safetensors", "progress.json"
_SHARDS = "state-*-of-*.safetensors"


def step_generator(seed: int, step: int, lane: int = 0) -> torch.Generator:
    """The CPU generator of one training step, and of one of its lanes."""
    mixed = (seed * 1_000_003 + step) * 1_009 + lane
    return torch.Generator().manual_seed(mixed % (2**63))


def save_state(
    directory: Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write the state of a training tensor by tensor.

    Where parameters are sharded, every worker calls and adds its own rows to its ``directory``: the same one, or one
    whose files are brought together later. Otherwise the content of ``directory`` is replaced by one rename.
    """
    tensors = _tensors_of(modules)
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer|{index}|{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    if any(isinstance(value, DTensor) for value in tensors.values()):
        _write_shard(directory, tensors, progress)
    else:
        write_state(directory, tensors, progress)


def save_module(directory: Path, name: str, module: nn.Module, progress: dict[str, Any], write: bool = True) -> None:
    """Write one module whole. Where it is sharded every worker calls, tensors are gathered singly, and one writes."""
    tensors = _tensors_of({name: module})
    if write:
        write_state(directory, tensors, progress)
        return
    for key in writing_order(tensors):
        whole_tensor(tensors[key])


def write_state(directory: Path, tensors: Mapping[str, Tensor], progress: dict[str, Any]) -> None:
    """Write whole ``tensors``, gathered one by one where they are sharded, and ``progress`` to ``directory``."""
    with replacing(directory) as staging:
        write_tensors(staging / _TENSORS, tensors, lambda name: whole_tensor(tensors[name]))
        (staging / _PROGRESS).write_text(json.dumps(progress))


def load_state(directory: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill ``modules`` and ``optimizer`` from ``directory`` and return the saved progress.

    Raises:
        ArtifactError: it is the state of another model, or a worker's part of it is missing.
    """
    saved = _SavedTensors(directory)
    for name, module in modules.items():
        _fill(module, name, saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for key in sorted(saved.shapes):
        if key.startswith("optimizer|"):
            _, index, slot = key.split("|")
            slots.setdefault(int(index), {})[slot] = saved.read_like(parameters[int(index)], key)
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_progress(directory)


def read_progress(directory: Path) -> dict[str, Any]:
    """The progress that was saved with the tensors."""
    progress: dict[str, Any] = json.loads((directory / _PROGRESS).read_text())
    return progress


def load_module(directory: Path, name: str, module: nn.Module) -> None:
    """Fill one ``module`` that was saved as ``name``."""
    _fill(module, name, _SavedTensors(directory))


def whole_tensor(tensor: Tensor) -> Tensor:
    """A copy on the CPU; where ``tensor`` is sharded, every worker must call."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().to("cpu", copy=True).contiguous()


class _Rows(NamedTuple):
    """Rows of a tensor in a file, of which the first is row ``start`` of the whole."""

    file: TensorFile
    start: int
    stop: int


class _SavedTensors:
    """The tensors of a state, whole or in parts."""

    def __init__(self, directory: Path) -> None:
        files = [TensorFile(file) for file in sorted(directory.glob(_SHARDS))]
        expected = int(files[0].file.stem.rpartition("-")[2]) if files else 0
        if len(files) != expected:
            raise ArtifactError(f"{directory} holds {len(files)} of {expected} parts of a state: copy it again")
        self.directory = directory
        #: Shape of every tensor.
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._rows: dict[str, list[_Rows]] = {}
        for file in files or [TensorFile(directory / _TENSORS)]:
            for name, part in file.layout.items():
                start, whole = _placed(file, name)
                self.shapes[name] = tuple(part.shape) if whole is None else (whole, *part.shape[1:])
                rows = len(part) if part.dim() else 1
                self._rows.setdefault(name, []).append(_Rows(file, start, start + rows))

    def read_like(self, target: Tensor, name: str) -> Tensor:
        """The tensor ``name``; if it is as large as ``target``, sharded as that one is."""
        if isinstance(target, DTensor) and self.shapes[name] == tuple(target.shape):
            return DTensor.from_local(
                self._read(name, *_own_rows(target)).to(target.device),
                target.device_mesh,
                target.placements,
                run_check=False,
                shape=target.shape,
                stride=target.stride(),
            )
        return self._read(name, 0, self.shapes[name][0] if self.shapes[name] else 1)

    def _read(self, name: str, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` of the whole; a scalar is one row."""
        held = self._rows[name]
        if not self.shapes[name]:
            return held[0].file.read(name)
        parts = [
            part.file.read_rows(name, max(start, part.start) - part.start, min(stop, part.stop) - part.start)
            for part in held
            if part.start < stop and start < part.stop
        ]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else held[0].file.read_rows(name, 0, 0)


def _placed(file: TensorFile, name: str) -> tuple[int, int | None]:
    """The first row of the part of ``name`` in ``file``, and the number of all rows; None if the part is the whole."""
    if name not in file.metadata:
        return 0, None
    start, whole = map(int, file.metadata[name].split(","))
    return start, whole


def _write_shard(directory: Path, tensors: Mapping[str, Tensor], progress: dict[str, Any]) -> None:
    """Add this worker's rows of ``tensors`` to ``directory``; what is not sharded is in the first worker's file."""
    rank, world = dist.get_rank(), dist.get_world_size()
    local, placed = {}, {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            start, stop = _own_rows(tensor)
            if start < stop:
                local[name] = tensor.to_local()
                placed[name] = f"{start},{len(tensor)}"
        elif rank == 0:
            local[name] = tensor
    with adding_files(directory, last=_PROGRESS) as staging:
        file = staging / f"state-{rank:05d}-of-{world:05d}.safetensors"
        write_tensors(file, local, lambda name: whole_tensor(local[name]), placed)
        if rank == 0:
            (staging / _PROGRESS).write_text(json.dumps(progress))


def _own_rows(tensor: DTensor) -> tuple[int, int]:
    """The rows of the whole that this worker holds."""
    if tensor.placements != (Shard(0),):
        raise NotImplementedError(f"a state is sharded by rows, not by {tensor.placements}")
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return (offset[0], offset[0] + shape[0]) if shape[0] else (0, 0)


def _tensors_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}|{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


@torch.no_grad()
def _fill(module: nn.Module, name: str, saved: _SavedTensors) -> None:
    """Copy the tensors of ``name`` into ``module``, one by one."""
    prefix, state = f"{name}|", module.state_dict()
    there = {key.removeprefix(prefix) for key in saved.shapes if key.startswith(prefix)}
    if different := sorted(there ^ state.keys()):
        raise ArtifactError(
            f"{saved.directory} is the state of another model: {different[0]} is in one of them only. Train into "
            "another directory, or under another name"
        )
    for key, target in state.items():
        if saved.shapes[prefix + key] != tuple(target.shape):
            raise ArtifactError(f"{saved.directory} is the state of another model: {key} has another shape")
        target.copy_(saved.read_like(target, prefix + key))
