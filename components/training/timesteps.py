"""Timesteps of a training batch."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified_timesteps(uniform: Tensor, steps: int) -> Tensor:
    """One timestep [b], int64 below ``steps``, from each of b equal ranges: the loss varies less between batches.

    Args:
        uniform: float [b], drawn from [0, 1): the place within each range.
    """
    spread = (torch.arange(len(uniform)) + uniform) / len(uniform)
    # In float32 the last place can round to 1.
    return (spread * steps).long().clamp_(max=steps - 1)
