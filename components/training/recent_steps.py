"""The steps whose gradients are not checked yet: reading a gradient's norm waits for the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from components.training.learner import StepResult


@dataclass(frozen=True)
class FinishedStep:
    """A step with its result, and the indices of its rows by lane."""

    step: int
    result: StepResult
    rows: Mapping[int, Tensor]


class RecentSteps:
    """The steps since the last check, oldest first."""

    def __init__(self) -> None:
        self._steps: list[FinishedStep] = []

    def add(self, step: int, result: StepResult, rows: Mapping[int, Tensor]) -> None:
        self._steps.append(FinishedStep(step, result, rows))

    def check(self) -> FinishedStep | None:
        """The first step whose gradient was not finite, if any: those after it follow from it. Forgets all steps."""
        steps, self._steps = self._steps, []
        if not steps:
            return None
        finite = torch.stack([each.result.gradient_norm for each in steps]).isfinite().tolist()
        return next((each for each, sound in zip(steps, finite, strict=True) if not sound), None)
