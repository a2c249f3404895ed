"""The pixel budget: how many pixels are worth denoising together, measured on the machine that generates."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from components.engine.request import Pipeline, Request
from components.engine.step import begin

#: The search ends after this many doublings without a gain; a single one may be a measurement error.
_DOUBLINGS_WITHOUT_GAIN = 3
_TIMED_STEPS = 3


def best_batch(step_s: Callable[[int], float | None], gain: float = 0.05, most: int = 32) -> int:
    """The smallest number of images a step whose throughput is within ``gain`` of the best one.

    Args:
        step_s: seconds of a step with the given number of images, or None if they do not fit into memory.
        gain: relative gain in throughput that does not justify a larger batch.
        most: upper limit of the number of images.
    """
    rates: dict[int, float] = {}
    best, count = 0.0, 1
    without_gain = 0
    while count <= most and without_gain < _DOUBLINGS_WITHOUT_GAIN:
        seconds = step_s(count)
        if seconds is None:
            break
        rates[count] = count / seconds
        without_gain = 0 if rates[count] > best * (1 + gain) else without_gain + 1
        best = max(best, rates[count])
        count *= 2
    return next((count for count, rate in rates.items() if rate * (1 + gain) >= best), 1)


@torch.inference_mode()
def measure_budget(
    pipeline: Pipeline, probe: Request, gain: float = 0.05, most: int = 32, deadline: float | None = None
) -> int:
    """The pixel budget of an engine for ``pipeline``, from a few steps of 1, 2, 4, ... requests like ``probe``.

    The memory limit is measured as well: each trial holds its states in memory and decodes one image beside them.

    Args:
        deadline: of `time.monotonic`. A trial that would not end by then, if twice the images take twice the time of
            the trial before, is left out.
    """
    took = 0.0

    def step_s(count: int) -> float | None:
        nonlocal took
        started = time.monotonic()
        if deadline is not None and started + 2 * took >= deadline:
            return None
        try:
            return step_seconds(pipeline, probe, count, decode=True)
        except torch.OutOfMemoryError:
            return None
        finally:
            took = time.monotonic() - started

    return best_batch(step_s, gain, most) * probe.pixels


def step_seconds(pipeline: Pipeline, probe: Request, count: int, *, decode: bool) -> float:
    """Seconds of the fastest of a few steps, without the first one, which fills the caches.

    Args:
        decode: decode an image beside the others, for the memory that this takes.
    """
    states = [begin(pipeline, probe) for _ in range(count)]
    denoiser = pipeline.denoiser()
    seconds = []
    for _ in range(min(1 + _TIMED_STEPS, states[0].total)):
        started = time.perf_counter()
        for state, prediction in zip(states, denoiser([state.step_input() for state in states]), strict=True):
            state.advance(prediction)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    if decode:
        pipeline.finish(states[0])
    return min(seconds[1:] or seconds)
