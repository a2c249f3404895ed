"""What a picture in the making looks like, for a fraction of what its decoding costs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def shrink(latents: Tensor, side: int) -> Tensor:
    """Average latents [b, c, h, w] down to at most ``side`` each way, which also averages most of their noise away."""
    longest = max(latents.shape[-2:])
    if longest <= side:
        return latents
    size = [max(1, round(edge * side / longest)) for edge in latents.shape[-2:]]
    return F.interpolate(latents.float(), size, mode="area").to(latents.dtype)
