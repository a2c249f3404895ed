"""A training loop for long runs on borrowed time: it stops at a deadline or on SIGTERM and goes on where it was."""

from __future__ import annotations

import copy
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from components.checkpoint import load_state, save_state, step_generator
from components.pretraining.loop import Schedule

logger = logging.getLogger(__name__)


def training_device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Trained:
    """The averaged and the raw module after ``step`` steps."""

    averaged: nn.Module
    raw: nn.Module
    step: int


class _Stop:
    """Becomes true at ``deadline`` (seconds of `time.time`) or when the process is asked to end."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline, self._asked = deadline, False
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def release(self) -> None:
        """Give SIGTERM back to whom it belonged."""
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked or (self._deadline is not None and time.time() >= self._deadline)


def fit(
    module: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    deadline: float | None = None,
    show: Callable[[nn.Module, int], None] | None = None,
    show_every: int = 400,
) -> Trained:
    """Train ``module`` on ``loss_of`` until ``schedule.steps`` or ``deadline``.

    ``show`` is called with the averaged module and the step every ``show_every`` steps.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, schedule.learning_rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay, fused=True
    )
    averaged = copy.deepcopy(module).requires_grad_(False)
    modules, step = {"module": module, "ema": averaged}, 0
    if (checkpoint / "progress.json").exists():
        step = load_state(checkpoint, modules, optimizer)["step"]
        logger.info("%s goes on at step %d", checkpoint.name, step)
    stop = _Stop(deadline)
    window: list[float] = []
    clock = time.monotonic()
    while step < schedule.steps and not stop:
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.factor(step)
        loss = loss_of(step_generator(schedule.seed, step))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(schedule.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(averaged.parameters()), list(module.parameters()), 1 - decay)
            for kept, new in zip(averaged.buffers(), module.buffers(), strict=True):
                kept.copy_(new)
        window.append(loss.item())
        step += 1
        if step % 25 == 0:
            rate = (time.monotonic() - clock) / len(window)
            logger.info("%s step %d/%d loss %.4f %.3f s a step", checkpoint.name, step, schedule.steps,
                        sum(window) / len(window), rate)  # fmt: skip
            window, clock = [], time.monotonic()
        if step % schedule.checkpoint_every == 0:
            save_state(checkpoint, modules, optimizer, {"step": step})
        if show is not None and step % show_every == 0:
            show(averaged, step)
            clock = time.monotonic()
    save_state(checkpoint, modules, optimizer, {"step": step})
    stop.release()
    return Trained(averaged.eval(), module, step)
