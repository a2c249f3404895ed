"""The training loop of the miniature's parts: AdamW, warm-up and cosine, EMA, resumable."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from components.checkpoint import load_state, save_state, step_generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rate, which warms up, and then decays along a cosine to a twentieth."""

    steps: int
    learning_rate: float
    batch_size: int
    warmup: int = 100
    ema: float = 0.998
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_every: int = 250

    def factor(self, step: int) -> float:
        """The factor of `learning_rate` at ``step``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass(frozen=True)
class FitResult:
    """The averaged and the raw module after ``step`` steps."""

    averaged: nn.Module
    raw: nn.Module
    step: int


def fit(
    module: nn.Module, loss_of: Callable[[torch.Generator], Tensor], schedule: Schedule, checkpoint: Path
) -> nn.Module:
    """Train ``module`` on ``loss_of`` to the end of ``schedule``, as `fit_until` does; return its EMA copy."""
    return fit_until(module, loss_of, schedule, checkpoint).averaged


def fit_until(
    module: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    stopped: Callable[[], bool] = lambda: False,
    after_step: Callable[[nn.Module, int], None] | None = None,
    report_every: int = 50,
) -> FitResult:
    """Train ``module`` on ``loss_of`` (one step's scalar loss, drawn from the step's generator).

    The state is saved in ``checkpoint``: a killed run resumes from it, and a finished one returns at once.

    Args:
        stopped: called before each step; if it returns true, the state is saved and training ends.
        after_step: called with the averaged module and the number of steps done.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, schedule.learning_rate, betas=(0.9, 0.99), weight_decay=schedule.weight_decay, fused=True
    )
    averaged = copy.deepcopy(module).requires_grad_(False)
    modules, step = {"module": module, "ema": averaged}, 0
    if (checkpoint / "progress.json").exists():
        step = load_state(checkpoint, modules, optimizer)["step"]
        logger.info("%s resumes at step %d", checkpoint.name, step)
    saved = step
    window: list[float] = []
    clock = time.monotonic()
    while step < schedule.steps and not stopped():
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.factor(step)
        loss = loss_of(step_generator(schedule.seed, step))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _average(averaged, module, min(schedule.ema, (1 + step) / (10 + step)))
        window.append(loss.item())
        step += 1
        if step % report_every == 0:
            rate = (time.monotonic() - clock) / len(window)
            logger.info(
                "%s step %d/%d loss %.4f (%.2f s a step)",
                checkpoint.name,
                step,
                schedule.steps,
                sum(window) / len(window),
                rate,
            )
            window, clock = [], time.monotonic()
        if step % schedule.checkpoint_every == 0:
            save_state(checkpoint, modules, optimizer, {"step": step})
            saved = step
        if after_step is not None:
            before = time.monotonic()
            after_step(averaged, step)
            clock += time.monotonic() - before  # excluded from the time of steps
    if step != saved:
        save_state(checkpoint, modules, optimizer, {"step": step})
    return FitResult(averaged.eval(), module, step)


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    ours: list[Tensor] = list(averaged.parameters())
    theirs: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for kept, new in zip(averaged.buffers(), module.buffers(), strict=True):
        kept.copy_(new)
