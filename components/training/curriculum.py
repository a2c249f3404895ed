"""The curriculum: from reconstructing the reference to generating the subject in other poses and sizes.

Paper: training progresses from easy to hard. The ratios are not public; ours rise linearly and are configurable.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Generator, Tensor, rand

from components.config import CurriculumConfig


def difficulty(progress: float, ramp: float) -> float:
    """Difficulty in [0, 1] at ``progress`` in [0, 1]: it rises linearly to 1 at the progress ``ramp``."""
    return min(1.0, max(0.0, progress) / ramp)


def multi_view_share(progress: float, curriculum: CurriculumConfig) -> float:
    """Probability at ``progress`` that a row's reference is *another* picture of its subject."""
    d = difficulty(progress, curriculum.ramp)
    return curriculum.start + d * (curriculum.end - curriculum.start)


class PoseRange(NamedTuple):
    """Maximum augmentation of references: rotation in degrees, scale factor minus 1, shift as a share of the side."""

    rotation: float
    scale: float
    shift: float


def pose_range(progress: float, curriculum: CurriculumConfig) -> PoseRange:
    """The augmentation of references at ``progress``."""
    d = difficulty(progress, curriculum.ramp)
    return PoseRange(d * curriculum.rotation, d * curriculum.scale, d * curriculum.shift)


def choose_multi_view(rows: int, progress: float, curriculum: CurriculumConfig, generator: Generator) -> Tensor:
    """Bool [rows]: which rows use another picture as reference."""
    return rand(rows, generator=generator) < multi_view_share(progress, curriculum)


def draw_curriculum(curriculum: CurriculumConfig) -> Figure:
    """The curriculum over a whole run, as a plot."""
    progress = np.linspace(0, 1, 201)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    poses = [pose_range(p, curriculum) for p in progress]
    axes.plot(progress, [multi_view_share(p, curriculum) for p in progress], label="references of another view")
    if curriculum.rotation or curriculum.scale or curriculum.shift:
        axes.plot(progress, [pose.scale for pose in poses], label="scale (factor less 1)")
        axes.plot(progress, [pose.shift for pose in poses], label="shift (share of the side)")
        axes.plot(progress, [pose.rotation / 180 for pose in poses], label="rotation (of 180 degrees)")
    axes.set(xlabel="progress of the training", ylabel="share", ylim=(0, 1), xlim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    return figure
