"""Means with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[..., float],
    *samples: np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """The percentile bootstrap of ``statistic(*samples)``, with its two-sided interval.

    The samples are paired: rows are resampled together.
    """
    rng = np.random.default_rng(seed)
    count = len(samples[0])
    values = []
    for _ in range(resamples):
        rows = rng.integers(count, size=count)
        values.append(statistic(*(s[rows] for s in samples)))
    outside = 50 * (1 - confidence)
    low, high = np.percentile(values, [outside, 100 - outside])
    return Estimate(float(statistic(*samples)), float(low), float(high))


def mean(sample: np.ndarray, confidence: float = 0.95) -> Estimate:
    """The mean of one sample."""
    return bootstrap(lambda s: float(s.mean()), sample, confidence=confidence)
