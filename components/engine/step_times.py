"""How long a denoising step of a size takes: measured at a few sizes, scaled to others."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from components.engine.budget import step_seconds
from components.engine.request import Pipeline, Request

#: A size is measured if its step is expected to take no longer than these seconds.
_MEASURED_S = 2.0
#: Beyond the largest measured size seconds grow with this power of the pixels, as self-attention does.
_POWER = 2


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a step of one image.

    Args:
        measured: seconds by pixels; empty if nothing is known.
    """

    measured: Mapping[int, float]

    def seconds(self, pixels: int) -> float:
        """Seconds of a step of one image of ``pixels``; 0 if nothing is known.

        Between measured sizes it is interpolated on logarithmic scales; a size below the smallest one that was measured
        takes at least its part of those seconds.
        """
        sizes = sorted(self.measured)
        if not sizes:
            return 0.0
        if pixels <= sizes[0]:
            return self.measured[sizes[0]] * pixels / sizes[0]
        if pixels >= sizes[-1]:
            return self.measured[sizes[-1]] * (pixels / sizes[-1]) ** _POWER
        upper = next(size for size in sizes if size >= pixels)
        lower = sizes[sizes.index(upper) - 1]
        share = math.log(pixels / lower) / math.log(upper / lower)
        return self.measured[lower] ** (1 - share) * self.measured[upper] ** share


#: Nothing is known.
NO_TIMES = StepTimes({})


def measure_step_times(pipeline: Pipeline, probe: Request, max_side: int, deadline: float | None = None) -> StepTimes:
    """Measure a step of ``probe``, and with sides that are doubled again and again.

    It ends at ``max_side``, before a step that is expected to be slow, and where memory ends.

    Args:
        deadline: of `time.monotonic`, after which no further size is measured; that of ``probe`` always is.
    """
    measured: dict[int, float] = {}
    width, height = probe.width, probe.height
    while max(width, height) <= max_side:
        late = deadline is not None and time.monotonic() >= deadline
        if measured and (late or StepTimes(measured).seconds(width * height) > _MEASURED_S):
            break
        try:
            sized = replace(probe, width=width, height=height, steps=2)
            measured[width * height] = step_seconds(pipeline, sized, 1, decode=False)
        except torch.OutOfMemoryError:
            break
        width, height = 2 * width, 2 * height
    return StepTimes(measured)
