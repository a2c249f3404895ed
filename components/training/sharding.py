"""The trained adapter on several workers: replicated (DDP) or sharded (FSDP2).

The frozen U-Net is replicated in both cases.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.distributed as dist
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from components.checkpoint import whole_tensor
from components.model.adapter import RealCustomAdapter
from components.training.objective import SubjectDenoiser


class DistributedAdapter:
    """An adapter and its exponential moving average on the workers of a process group.

    Args:
        denoiser: with the adapter to train, on the worker's device. Every worker must hold the same parameters.
        sharding: ignored for a single worker.
    """

    def __init__(self, denoiser: SubjectDenoiser, sharding: Literal["ddp", "fsdp"]) -> None:
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.adapter: RealCustomAdapter = denoiser.adapter
        self.averaged: RealCustomAdapter = copy.deepcopy(denoiser.adapter).requires_grad_(False)
        self._whole: nn.Module = denoiser
        if self.world == 1:
            return
        if sharding == "ddp":
            self._whole = DistributedDataParallel(denoiser)
            return
        mesh = init_device_mesh(next(denoiser.parameters()).device.type, (self.world,))
        for module in (self.adapter, self.averaged):
            fully_shard(module, mesh=mesh, reshard_after_forward=False)

    @property
    def denoiser(self) -> nn.Module:
        """The module for the forward pass of a training step."""
        return self._whole

    @property
    def sharded(self) -> bool:
        """Whether parameters are sharded among workers."""
        return isinstance(self.adapter, FSDPModule)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules of a checkpoint."""
        return {"adapter": self.adapter, "ema": self.averaged}

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """A forward and backward pass; gradients are synchronised only in the ``last`` one of a step."""
        if isinstance(self._whole, DistributedDataParallel) and not last:
            with self._whole.no_sync():
                yield
            return
        if isinstance(self.adapter, FSDPModule):
            self.adapter.set_requires_gradient_sync(last)
            self.adapter.set_reshard_after_backward(last)
        yield

    def clip_gradient(self, most: float) -> Tensor:
        """Clip the gradient to the norm ``most``; returns its norm before, the same on every worker."""
        norm = nn.utils.clip_grad_norm_(self.adapter.parameters(), most)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Update the moving average."""
        torch._foreach_lerp_(_local(self.averaged), _local(self.adapter), 1 - decay)

    @contextmanager
    def borrowed_unet(self) -> Iterator[UNet2DConditionModel]:
        """The U-Net, for another adapter's attention processors: the trained adapter's are set again at the end."""
        whole = self._whole.module if isinstance(self._whole, DistributedDataParallel) else self._whole
        assert isinstance(whole, SubjectDenoiser)
        try:
            yield whole.unet
        finally:
            self.adapter.attach(whole.unet)

    @contextmanager
    def averaged_denoiser(self) -> Iterator[nn.Module]:
        """The U-Net with the averaged adapter, without gradients. If it is sharded, every worker must enter."""
        with self.borrowed_unet() as unet:
            if isinstance(self.averaged, FSDPModule):
                self.averaged.unshard()
            try:
                yield SubjectDenoiser(unet, self.averaged)
            finally:
                if isinstance(self.averaged, FSDPModule):
                    self.averaged.reshard()

    def whole_average(self, keep: bool = True) -> RealCustomAdapter | None:
        """The unsharded averaged adapter, on the CPU where it is sharded: then every worker must call.

        Args:
            keep: whether this worker needs it. The others help to gather its tensors, and hold one at a time.
        """
        if not self.sharded:
            return self.averaged if keep else None
        gathered = {}
        for key, value in self.averaged.state_dict().items():
            tensor = whole_tensor(value)
            if keep:
                gathered[key] = tensor
        if not keep:
            return None
        with torch.device("meta"):
            whole: RealCustomAdapter = RealCustomAdapter.from_config(self.averaged.config)
        whole.load_state_dict(gathered, assign=True)
        return whole.requires_grad_(False)

    def gather(self, values: list[float], device: torch.device) -> list[list[float]]:
        """The ``values`` of every worker, by rank."""
        mine = torch.tensor(values, dtype=torch.float64, device=device)
        if self.world == 1:
            return [mine.tolist()]
        gathered = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(gathered, mine)
        return [one.tolist() for one in gathered]


def _local(module: nn.Module) -> list[Tensor]:
    return [p.to_local() if isinstance(p, DTensor) else p.data for p in module.parameters()]
