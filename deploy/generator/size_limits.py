"""Which requests a generator can execute in time, by the duration of its steps."""

from __future__ import annotations

from dataclasses import dataclass

from components.engine.request import Size
from components.engine.step_times import NO_TIMES, StepTimes
from deploy.interfaces.errors import UnsupportedRequestError


@dataclass(frozen=True)
class SizeLimits:
    """Limits of size and steps that follow from the duration of steps.

    Args:
        times: of the steps of this model on this machine.
        step_s: maximum duration of a step, which holds up all other requests.
        jobs_s: maximum duration of a job.
    """

    times: StepTimes = NO_TIMES
    step_s: float = float("inf")
    jobs_s: float = float("inf")

    def check(self, size: Size, steps: int, images: int, timeout_s: float | None) -> None:
        """Check that ``images`` of ``size`` can be done within ``timeout_s``, in steps that are short enough.

        Raises:
            UnsupportedRequestError: they cannot; the message says which size can.
        """
        step_s, allowed_s = self.times.seconds(size[0] * size[1]), self._allowed_s(steps * images, timeout_s)
        if step_s <= allowed_s:
            return
        asked = f"{size[0]}x{size[1]} with {steps} steps" + (f" and n={images}" if images > 1 else "")
        if step_s > self.step_s:
            reason = f"one of its steps takes about {step_s:.0f} s here, and at most {self.step_s:g} s are allowed"
        else:
            total_s = step_s * steps * images
            reason = f"it takes about {total_s:.0f} s here, and at most {timeout_s:g} s are allowed"
        remedies = []
        if largest := self.times.largest(size, allowed_s):
            remedies.append(f"the largest size of this shape with so many steps is {largest[0]}x{largest[1]}")
        if timeout_s is not None and timeout_s < self.jobs_s:
            if step_s <= self._allowed_s(steps * images, self.jobs_s):
                remedies.append(f"POST /v1/jobs takes this one, for up to {self.jobs_s:g} s")
            else:
                larger = self.times.largest(size, self._allowed_s(steps * images, self.jobs_s))
                if larger and larger != largest:
                    remedies.append(f"as a job (POST /v1/jobs) it is {larger[0]}x{larger[1]}")
        said = "; ".join(remedies) or "take fewer steps"
        raise UnsupportedRequestError(f"size: {asked} is too large: {reason}; {said}", "size")

    def _allowed_s(self, steps: int, timeout_s: float | None) -> float:
        return self.step_s if timeout_s is None else min(self.step_s, timeout_s / steps)


#: No limits.
NO_LIMITS = SizeLimits()
