"""`Stats`: a snapshot of the engine's load and throughput."""

from __future__ import annotations

from dataclasses import dataclass

from components.engine.request import Phase


@dataclass(frozen=True)
class Stats:
    """A snapshot of the engine.

    Args:
        queued, denoising, decoding: number of requests in each phase.
        pixels, budget: pixels that are denoised together, now and at most.
        batch: images in the last U-Net call.
        step_s: mean seconds of the recent steps.
        backlog_s: seconds until all queued and denoised requests are done, at the recent throughput; 0 before the first
            step.
        steps: total number of steps.
        step_seconds, pictures: totals of all steps; an image counts once in each of its steps.
        ended: total number of requests by final phase.
        silent_s: seconds without progress, 0 while the engine is idle. It grows while the engine is stuck.
        expected_s: seconds that the last step was expected to take.
    """

    queued: int
    denoising: int
    decoding: int
    pixels: int
    budget: int
    batch: int
    step_s: float
    backlog_s: float
    steps: int
    step_seconds: float
    pictures: int
    ended: dict[Phase, int]
    silent_s: float
    expected_s: float = 0.0
