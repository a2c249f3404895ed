"""A training loop that stops at a deadline or on SIGTERM, and resumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from components.pretraining.loop import FitResult, Schedule, fit_until
from components.sigterm import on_sigterm


def training_device() -> torch.device:
    """The GPU if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class _Stop:
    """True after ``deadline`` (seconds of `time.time`), or once it is asked for."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline, self._asked = deadline, False

    def ask(self) -> None:
        self._asked = True

    def __call__(self) -> bool:
        return self._asked or (self._deadline is not None and time.time() >= self._deadline)


def fit(
    module: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    deadline: float | None = None,
    show: Callable[[nn.Module, int], None] | None = None,
    show_every: int = 400,
) -> FitResult:
    """Train ``module`` on ``loss_of`` until ``schedule.steps``, ``deadline`` or SIGTERM.

    ``show`` is called with the averaged module and the step every ``show_every`` steps.
    """

    def after_step(averaged: nn.Module, step: int) -> None:
        if show is not None and step % show_every == 0:
            show(averaged, step)

    stop = _Stop(deadline)
    with on_sigterm(stop.ask):
        return fit_until(module, loss_of, schedule, checkpoint, stop, after_step, report_every=25)
