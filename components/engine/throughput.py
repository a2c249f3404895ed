"""How quickly the engine has been drawing, and how long what waits will take at that."""

from __future__ import annotations

from collections import deque

#: Steps that the means are taken from.
_RECENT = 32


class Throughput:
    """Counts steps. It is the engine's to see that nobody reads and writes it at the same time."""

    def __init__(self) -> None:
        #: Of all steps: their number, their seconds, and the pictures in them, each in every step it took part in.
        self.steps, self.seconds, self.pictures = 0, 0.0, 0
        #: Pictures in the last step.
        self.batch = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)

    def count(self, seconds: float, pictures: int, pixels: int) -> None:
        """A step of so many pictures with so many pixels together is done."""
        self.steps, self.seconds, self.pictures = self.steps + 1, self.seconds + seconds, self.pictures + pictures
        self.batch = pictures
        self._recent.append((seconds, pixels))

    @property
    def step_s(self) -> float:
        """Seconds of a step, the mean of the last few; 0 before the first."""
        return sum(seconds for seconds, _ in self._recent) / max(1, len(self._recent))

    def seconds_for(self, pixel_steps: int) -> float:
        """How long so many would take at the pace of the last few steps; 0 if there were none."""
        pixels, seconds = sum(pixels for _, pixels in self._recent), sum(seconds for seconds, _ in self._recent)
        return pixel_steps * seconds / pixels if pixels else 0.0
