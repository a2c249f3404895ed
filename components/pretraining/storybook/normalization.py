"""Group normalisation with a fast backward pass for channels-last activations on a CPU.

In that layout, torch's backward pass takes half of a convolutional network's step (docs/explanation/experiments.md).
This one needs two sums over the positions and one multiply-add for each pass, with statistics in float32.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Part = TypeVar("Part", bound=nn.Module)


class ChannelsLastGroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, the same parameters and result, for [b, c, ...] tensors."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None:
            raise ValueError("ChannelsLastGroupNorm needs affine=True")
        normalized: Tensor = _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return normalized


def use_channels_last(module: Part) -> Part:
    """Convert ``module`` to channels-last, and replace its group normalisations on a CPU; returns it."""
    if next(module.parameters()).device.type == "cpu":
        _exchange(module, nn.GroupNorm, ChannelsLastGroupNorm)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def use_plain_layout(module: Part) -> Part:
    """Undo `use_channels_last`."""
    _exchange(module, ChannelsLastGroupNorm, nn.GroupNorm)
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return module


def _exchange(module: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> None:
    for part in module.modules():
        if type(part) is old:
            part.__class__ = new


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        flat = _positions_first(x)  # [b, p, c]
        count = flat.shape[1] * flat.shape[2] // groups
        total = flat.sum(1, dtype=torch.float32)
        square = (flat * flat).sum(1, dtype=torch.float32)
        mean = _by_group(total, groups).sum(-1, keepdim=True) / count  # [b, g, 1]
        variance = (_by_group(square, groups).sum(-1, keepdim=True) / count - mean**2).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        scale = (weight.view(1, groups, -1) * inverse).flatten(1)
        shift = (bias.view(1, groups, -1) - weight.view(1, groups, -1) * inverse * mean).flatten(1)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.groups, ctx.count = groups, count
        result = torch.addcmul(shift[:, None].to(x.dtype), flat, scale[:, None].to(x.dtype))
        return _as_before(result, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        flat, gradient = _positions_first(x), _positions_first(gradients[0])
        total = gradient.sum(1, dtype=torch.float32)
        product = (gradient * flat).sum(1, dtype=torch.float32)
        w = weight.view(1, ctx.groups, -1)
        by_group, by_product = _by_group(total, ctx.groups), _by_group(product, ctx.groups)
        # Sums over a group of the gradient of the normalised value, and of that times the normalised value.
        first = (by_group * w).sum(-1, keepdim=True) / ctx.count
        centred = (by_product - by_group * mean) * inverse  # sum over positions of gradient times normalised x
        second = (centred * w).sum(-1, keepdim=True) / ctx.count
        scale = (w * inverse).flatten(1)
        slope = (-second * inverse**2).expand(-1, -1, w.shape[-1]).flatten(1)
        offset = (inverse * (second * mean * inverse - first)).expand(-1, -1, w.shape[-1]).flatten(1)
        kind = x.dtype
        partial = torch.addcmul(offset[:, None].to(kind), flat, slope[:, None].to(kind))
        result = partial.addcmul_(gradient, scale[:, None].to(kind))
        return _as_before(result, x), centred.flatten(1).sum(0), total.sum(0), None, None


def _positions_first(x: Tensor) -> Tensor:
    """[b, c, ...] as [b, positions, c]; no copy where it is channels-last."""
    return x.flatten(2).transpose(1, 2).contiguous() if x.dim() != 4 else x.permute(0, 2, 3, 1).flatten(1, 2)


def _as_before(flat: Tensor, like: Tensor) -> Tensor:
    if like.dim() != 4:
        return flat.transpose(1, 2).reshape(like.shape)
    return flat.view(like.shape[0], *like.shape[2:], like.shape[1]).permute(0, 3, 1, 2)


def _by_group(value: Tensor, groups: int) -> Tensor:
    return value.view(len(value), groups, -1)
