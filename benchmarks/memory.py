"""Peak memory of a function."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

_MIB = 2**20
_RESET_PEAK = "5"


class PeakMemory:
    """Context manager; ``mib`` is the peak memory of its block beyond the memory in use before it.

    On a GPU that is what torch allocated. On a CPU it is the process's resident memory as Linux counts it, to within
    what the allocator keeps back; elsewhere it stays None.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.mib: float | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before: int | None = torch.cuda.memory_allocated()
        else:
            self._before = _resident_after_reset()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else _status("VmHWM")
        self.mib = max(0, peak - self._before) / _MIB


def _resident_after_reset() -> int | None:
    """Resident bytes after freeing unused memory and resetting the peak; None if the system cannot reset it."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def _status(field: str) -> int:
    """Bytes of a field of this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")
