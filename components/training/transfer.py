"""Copies to the training's device that do not wait for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """``value`` on ``device``. From the CPU to a GPU it is copied through pinned memory, in the order of its stream.

    A copy from other memory would wait until the device has done all that was asked of it before.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
