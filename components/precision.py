"""Mixed precision: bfloat16 where the hardware computes in it.

On a processor without bfloat16 arithmetic it is emulated, and 15 times slower than float32
(docs/explanation/experiments.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch


def computes_bf16(device: torch.device) -> bool:
    """Whether ``device`` has arithmetic for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device, bf16: bool | Literal["auto"] = "auto") -> AbstractContextManager[None]:
    """Autocast to bfloat16; with ``auto`` only where ``device`` supports it natively."""
    wanted = computes_bf16(device) if bf16 == "auto" else bf16
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()
