"""Means with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(statistic: Callable[..., float], *samples: np.ndarray, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The percentile bootstrap of ``statistic(*samples)``.

    The samples are paired: one row of each belongs to the same picture, and rows are drawn together.
    """
    rng = np.random.default_rng(seed)
    count = len(samples[0])
    values = []
    for _ in range(resamples):
        rows = rng.integers(count, size=count)
        values.append(statistic(*(s[rows] for s in samples)))
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(statistic(*samples)), float(low), float(high))


def mean(sample: np.ndarray) -> Estimate:
    """The mean of one sample."""
    return bootstrap(lambda s: float(s.mean()), sample)
