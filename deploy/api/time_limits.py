"""Refuses requests that would take longer than they may, before anything is computed for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deploy.interfaces.errors import BeyondTimeLimitError
from deploy.interfaces.requests import GenerationRequest
from deploy.status.replica_status import RecentReports, StepTime

#: Sides of images are multiples of this.
_SIDE_STEP = 8


def least_seconds(request: GenerationRequest, time: StepTime) -> float:
    """Seconds that a request takes at least on a generator that has nothing else to do.

    The time of a step is that of one image, which was measured, in proportion to the pixels. As many images share a
    step as the generator takes together.
    """
    together = max(1, time.budget // (request.width * request.height))
    return math.ceil(len(request.seeds) / together) * request.unet_calls * _step_seconds(request, time)


class TimeLimits:
    """Knows from the reports of the generators how long their steps take."""

    def __init__(self, reports: RecentReports) -> None:
        self._reports = reports

    async def check(self, request: GenerationRequest, limit_s: float, instead: str = "") -> None:
        """Refuse a request that takes longer than ``limit_s`` on the fastest generator.

        Args:
            instead: what the client may do instead, for the message.

        Raises:
            BeyondTimeLimitError: with the largest request that would fit.
        """
        times = [report.step_time for report in await self._reports.read() if report.step_time is not None]
        if not times:  # no generator has reported, as while the first one starts
            return
        seconds, time = min(((least_seconds(request, each), each) for each in times), key=lambda pair: pair[0])
        if seconds > limit_s:
            raise BeyondTimeLimitError(_message(request, time, seconds, limit_s) + instead)


def _step_seconds(request: GenerationRequest, time: StepTime) -> float:
    return time.seconds * request.width * request.height / time.pixels


def _message(request: GenerationRequest, time: StepTime, seconds: float, limit_s: float) -> str:
    size, count = f"{request.width}x{request.height}", len(request.seeds)
    images = f"{count} images of {size}" if count > 1 else f"{size}"
    steps = math.floor(request.steps * limit_s / seconds)
    sides = [_shrunk(side, math.sqrt(limit_s / seconds)) for side in (request.width, request.height)]
    fits = [f"{steps} steps at this size"] if steps else []
    fits += [f"{sides[0]}x{sides[1]} with {request.steps} steps"] if min(sides) else []
    largest = f"; at most {_either(fits)} would fit" if fits else ""
    return (
        f"size, steps: {images} with {request.steps} steps takes about {seconds:,.0f} s here, and may take "
        f"{limit_s:,.0f} s{largest}"
    )


def _shrunk(side: int, factor: float) -> int:
    return int(side * factor) // _SIDE_STEP * _SIDE_STEP


def _either(choices: Sequence[str]) -> str:
    return " or ".join(choices)
