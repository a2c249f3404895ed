"""Mixed precision: bfloat16 where the hardware computes in it.

On a processor without bfloat16 arithmetic it is emulated, and 15 times slower than float32
(docs/explanation/experiments.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch


def computes_bf16(device: torch.device) -> bool:
    """Whether ``device`` has arithmetic for bfloat16, and torch uses it (``ATEN_CPU_CAPABILITY`` may forbid it)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return hardware and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def is_mixed(device: torch.device, bf16: bool | Literal["auto"] = "auto") -> bool:
    """Whether to compute in bfloat16; with ``auto`` only where ``device`` supports it natively."""
    return computes_bf16(device) if bf16 == "auto" else bf16


def autocast(device: torch.device, bf16: bool | Literal["auto"] = "auto") -> AbstractContextManager[None]:
    """Autocast to bfloat16, where `is_mixed`."""
    return torch.autocast(device.type, torch.bfloat16) if is_mixed(device, bf16) else nullcontext()


def frozen_dtype(stored: str, device: torch.device, bf16: bool | Literal["auto"] = "auto") -> torch.dtype:
    """The dtype of the frozen parts of a training: bfloat16 if they are ``stored`` and computed in it, else float32.

    Outside of autocast float32 inputs would not fit them, and training does not compute in float16.
    """
    return torch.bfloat16 if stored == "bfloat16" and is_mixed(device, bf16) else torch.float32
