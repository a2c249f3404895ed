"""Interruptions of a training: a requested stop, and the preemption of a node."""

from __future__ import annotations

import enum
import time
from pathlib import Path

import ray.train
import torch
import torch.distributed as dist

#: Seconds between queries for preemptions, and about the seconds between broadcasts to all workers: each of them waits
#: for the device, and looks at the disk.
_PREEMPTION_S, _BROADCAST_S = 5.0, 0.5
#: Maximum number of steps between broadcasts.
_MOST_STEPS = 100


class Interruption(enum.IntEnum):
    """``STOP``: save and end. ``SAVE``: save now, and continue until the node is gone."""

    NONE = 0
    SAVE = 1
    STOP = 2


class Interruptions:
    """Polls for interruptions between steps. A collective operation: all workers must call it and get the same result.

    Where steps are short, only every few of them are followed by a broadcast; the first worker says how many.

    Args:
        stop_file: its existence requests a stop.
    """

    def __init__(self, stop_file: Path, device: torch.device) -> None:
        self._stop_file, self._device = stop_file, device
        self._shared = dist.is_initialized() and dist.get_world_size() > 1
        self._leads = not self._shared or dist.get_rank() == 0
        self._polled, self._saved = time.monotonic(), False
        self._steps = self._until_next = 1
        self._broadcasted: float | None = None

    def poll(self) -> Interruption:
        """The most urgent interruption; `SAVE` is returned once for each preemption."""
        self._until_next -= 1
        if self._until_next:
            return Interruption.NONE
        due = time.monotonic() - self._polled > _PREEMPTION_S
        stop, ask, self._steps = self._broadcast(int(self._stop_file.exists()), int(due), self._next_steps())
        self._until_next = self._steps
        if stop:
            return Interruption.STOP
        if not ask:
            return Interruption.NONE
        self._polled = time.monotonic()
        preempted = ray.train.get_preemption_info() is not None
        fresh, self._saved = preempted and not self._saved, preempted
        return Interruption.SAVE if fresh else Interruption.NONE

    def _next_steps(self) -> int:
        """The number of steps until the next broadcast, by the time that those since the last one took."""
        now, before = time.monotonic(), self._broadcasted
        self._broadcasted = now
        if before is None:
            return 1
        return min(_MOST_STEPS, max(1, int(_BROADCAST_S * self._steps / max(now - before, 1e-6))))

    def _broadcast(self, *leaders: int) -> list[int]:
        """The values of the first worker."""
        if not self._shared:
            return list(leaders)
        values = torch.tensor(leaders if self._leads else [0] * len(leaders), dtype=torch.int32, device=self._device)
        dist.broadcast(values, 0)
        return [int(value) for value in values.tolist()]
