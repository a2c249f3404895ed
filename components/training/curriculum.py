"""The curriculum training recipe: from copying the reference to finding the subject in any pose and size.

Paper: training goes from easy to hard. The ratios are not public; ours rise linearly and are configured and logged.
"""

from __future__ import annotations

from torch import Generator, Tensor, rand

from components.config import CurriculumConfig


def difficulty(progress: float, ramp: float) -> float:
    """Difficulty in [0, 1] at ``progress`` in [0, 1]: it rises linearly and is full after the share ``ramp``."""
    return min(1.0, max(0.0, progress) / ramp)


def multi_view_share(progress: float, curriculum: CurriculumConfig) -> float:
    """Chance at ``progress`` that a row's reference is *another* picture of its subject."""
    d = difficulty(progress, curriculum.ramp)
    return curriculum.start + d * (curriculum.end - curriculum.start)


def choose_multi_view(rows: int, progress: float, curriculum: CurriculumConfig, generator: Generator) -> Tensor:
    """Bool [rows]: which rows take another picture as their reference."""
    return rand(rows, generator=generator) < multi_view_share(progress, curriculum)
