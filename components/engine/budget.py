"""How many pixels are worth drawing at the same time, measured on the machine that draws them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from components.engine.request import Pipeline, Request
from components.engine.step import begin

#: Doublings without a gain after which the search ends: a few may be hiccups.
_PATIENCE = 3
_TIMED_STEPS = 3


def best_batch(step_s: Callable[[int], float | None], gain: float = 0.05, most: int = 32) -> int:
    """The least number of pictures a step at whose throughput more would not pay.

    Args:
        step_s: seconds of a step of so many pictures, or None if they do not fit into memory.
        gain: share of throughput that is not worth a larger batch.
        most: is never exceeded.
    """
    rates: dict[int, float] = {}
    best, count = 0.0, 1
    without_gain = 0
    while count <= most and without_gain < _PATIENCE:
        seconds = step_s(count)
        if seconds is None:
            break
        rates[count] = count / seconds
        without_gain = 0 if rates[count] > best * (1 + gain) else without_gain + 1
        best = max(best, rates[count])
        count *= 2
    return next((count for count, rate in rates.items() if rate * (1 + gain) >= best), 1)


@torch.inference_mode()
def measure_budget(pipeline: Pipeline, probe: Request, gain: float = 0.05, most: int = 32) -> int:
    """The pixel budget of an engine over ``pipeline``, from a few steps of 1, 2, 4, ... requests like ``probe``.

    What fits into memory is what was seen to fit: that many drafts with a picture being decoded beside them.
    """

    def step_s(count: int) -> float | None:
        try:
            return _step_seconds(pipeline, probe, count)
        except torch.OutOfMemoryError:
            return None

    return best_batch(step_s, gain, most) * probe.pixels


def _step_seconds(pipeline: Pipeline, probe: Request, count: int) -> float:
    """Of the quickest of a few steps, after a first one that fills the caches."""
    drafts = [begin(pipeline, probe) for _ in range(count)]
    crowd = pipeline.crowd()
    seconds = []
    for _ in range(min(1 + _TIMED_STEPS, drafts[0].total)):
        started = time.perf_counter()
        for draft, prediction in zip(drafts, crowd([draft.turn() for draft in drafts]), strict=True):
            draft.take(prediction)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    pipeline.finish(drafts[0])
    return min(seconds[1:] or seconds)
