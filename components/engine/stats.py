"""`Stats`: what the engine says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from components.engine.request import Phase


@dataclass(frozen=True)
class Stats:
    """What the engine is doing.

    Args:
        queued, denoising, decoding: requests now.
        pixels, budget: drawn at the same time, now and at most.
        batch: pictures in the last U-Net call.
        step_s: seconds of a step, the mean of the last few.
        backlog_s: seconds until all that is queued and denoised now will be done, at the pace of the last few steps;
            0 if nothing was drawn yet.
        steps: so far.
        step_seconds, pictures: of all steps together; a picture counts in each step that it took part in.
        ended: requests so far, by the phase they ended in.
        silent_s: seconds since anything moved, 0 while there is nothing to do. A stuck engine shows here.
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
