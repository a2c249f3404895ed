"""Small latents for previews, which are cheap to decode."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def shrink(latents: Tensor, side: int) -> Tensor:
    """Latents [b, c, h, w] averaged over areas to at most ``side`` positions each way, which cancels most noise."""
    longest = max(latents.shape[-2:])
    if longest <= side:
        return latents
    size = [max(1, round(edge * side / longest)) for edge in latents.shape[-2:]]
    return F.interpolate(latents.float(), size, mode="area").to(latents.dtype)
