"""What asks a training to do something besides training: a stop, and a node that is about to be taken away."""

from __future__ import annotations

import enum
import time
from pathlib import Path

import ray.train
import torch
import torch.distributed as dist

#: Seconds between looks for a node that will be taken away: each is a conversation of all workers.
_EVERY_S = 5.0


class Interruption(enum.IntEnum):
    """``STOP``: save and end. ``SAVE``: save now, and go on for as long as the node is there."""

    NONE = 0
    SAVE = 1
    STOP = 2


class Interruptions:
    """Looks out for notices between steps; all workers get the same answer, so all must ask.

    Args:
        stop_file: somebody asks for an end by making it.
    """

    def __init__(self, stop_file: Path, device: torch.device) -> None:
        self._stop_file, self._device = stop_file, device
        self._shared = dist.is_initialized() and dist.get_world_size() > 1
        self._leads = not self._shared or dist.get_rank() == 0
        self._looked, self._saved = time.monotonic(), False

    def look(self) -> Interruption:
        """The most urgent notice there is; a `SAVE` is given once."""
        stop, ask = self._agree(self._stop_file.exists(), time.monotonic() - self._looked > _EVERY_S)
        if stop:
            return Interruption.STOP
        if not ask:
            return Interruption.NONE
        self._looked = time.monotonic()
        taken_away = ray.train.get_preemption_info() is not None
        fresh, self._saved = taken_away and not self._saved, taken_away
        return Interruption.SAVE if fresh else Interruption.NONE

    def _agree(self, *wishes: bool) -> list[bool]:
        """The wishes of the first worker."""
        if not self._shared:
            return list(wishes)
        flags = torch.tensor(wishes if self._leads else [False] * len(wishes), dtype=torch.uint8, device=self._device)
        dist.broadcast(flags, 0)
        return [bool(flag) for flag in flags]
