"""Interruptions of a training: a requested stop, and the preemption of a node."""

from __future__ import annotations

import enum
import time
from pathlib import Path

import ray.train
import torch
import torch.distributed as dist

#: Seconds between queries for preemptions, each of which needs a broadcast to all workers.
_EVERY_S = 5.0


class Interruption(enum.IntEnum):
    """``STOP``: save and end. ``SAVE``: save now, and continue until the node is gone."""

    NONE = 0
    SAVE = 1
    STOP = 2


class Interruptions:
    """Polls for interruptions between steps. A collective operation: all workers must call it and get the same result.

    Args:
        stop_file: its existence requests a stop.
    """

    def __init__(self, stop_file: Path, device: torch.device) -> None:
        self._stop_file, self._device = stop_file, device
        self._shared = dist.is_initialized() and dist.get_world_size() > 1
        self._leads = not self._shared or dist.get_rank() == 0
        self._polled, self._saved = time.monotonic(), False

    def poll(self) -> Interruption:
        """The most urgent interruption; `SAVE` is returned once for each preemption."""
        stop, ask = self._broadcast(self._stop_file.exists(), time.monotonic() - self._polled > _EVERY_S)
        if stop:
            return Interruption.STOP
        if not ask:
            return Interruption.NONE
        self._polled = time.monotonic()
        preempted = ray.train.get_preemption_info() is not None
        fresh, self._saved = preempted and not self._saved, preempted
        return Interruption.SAVE if fresh else Interruption.NONE

    def _broadcast(self, *flags_of_leader: bool) -> list[bool]:
        """The values of the first worker."""
        if not self._shared:
            return list(flags_of_leader)
        flags = torch.tensor(
            flags_of_leader if self._leads else [False] * len(flags_of_leader), dtype=torch.uint8, device=self._device
        )
        dist.broadcast(flags, 0)
        return [bool(flag) for flag in flags]
