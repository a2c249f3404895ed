"""The engine's throughput in pixel-steps a second, and the time that queued work takes at that rate."""

from __future__ import annotations

from collections import deque

#: Number of steps over which means are taken.
_RECENT = 32


class Throughput:
    """Counts steps. Not thread-safe: `EngineState` guards it."""

    def __init__(self) -> None:
        #: Totals of all steps: their number, their seconds, and their images (an image counts once a step).
        self.steps, self.seconds, self.images = 0, 0.0, 0
        #: Images in the last step.
        self.batch = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)

    def count(self, seconds: float, images: int, pixels: int) -> None:
        """Count one step of ``images`` with ``pixels`` together."""
        self.steps, self.seconds, self.images = self.steps + 1, self.seconds + seconds, self.images + images
        self.batch = images
        self._recent.append((seconds, pixels))

    @property
    def step_s(self) -> float:
        """Mean seconds of the recent steps; 0 before the first."""
        return sum(seconds for seconds, _ in self._recent) / max(1, len(self._recent))

    def seconds_for(self, pixel_steps: int) -> float:
        """Seconds for ``pixel_steps`` at the throughput of the recent steps; 0 before the first."""
        pixels, seconds = sum(pixels for _, pixels in self._recent), sum(seconds for seconds, _ in self._recent)
        return pixel_steps * seconds / pixels if pixels else 0.0
