"""How fast a generator is, and which requests it can therefore do within their time limit.

The one rule of size, steps and time: gateways apply it before anything is charged, and generators once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from components.engine.step_times import NO_TIMES, StepTimes
from deploy.interfaces.errors import BeyondTimeLimitError
from deploy.interfaces.requests import GenerationRequest

#: Sides of images are multiples of this.
_GRID = 8


@dataclass(frozen=True)
class GeneratorSpeed:
    """What a generator has measured before it took requests; by default nothing is known, and nothing is refused.

    Args:
        times: of a step of one image.
        budget: pixels that it denoises together.
        max_step_s: maximum duration of a step of one image, which holds up all other requests.
        controls: names of controls, and the share of a step by which each lengthens the steps in which it acts.
    """

    times: StepTimes = NO_TIMES
    budget: int = 1
    max_step_s: float = math.inf
    controls: tuple[tuple[str, float], ...] = ()

    def seconds(self, request: GenerationRequest) -> float:
        """Seconds that a request takes at least, on a generator that has nothing else to do.

        As many images share a step as the generator denoises together. Every call of the U-Net counts as a step: some
        samplers make two. A control acts in a share of the steps.
        """
        together = max(1, self.budget // (request.width * request.height))
        acts = 0.0 if request.control is None else request.control.end - request.control.start
        calls = request.unet_calls * (1 + acts * self._control_share(request))
        return math.ceil(len(request.seeds) / together) * calls * self.times.seconds(request.width * request.height)

    def fits(self, request: GenerationRequest, limit_s: float) -> bool:
        """Whether a request can be done within ``limit_s`` seconds, in steps that are short enough."""
        return self._step_seconds(request) <= self.max_step_s and self.seconds(request) <= limit_s

    def check(self, request: GenerationRequest, limit_s: float, jobs_s: float, tolerance: float = 1.0) -> None:
        """Refuse a request that cannot be done within ``limit_s``.

        Args:
            jobs_s: time limit of jobs in seconds.
            tolerance: factor of all limits.

        Raises:
            BeyondTimeLimitError: with the largest requests that would fit, and what a job may be.
        """
        tolerant = replace(self, max_step_s=tolerance * self.max_step_s)
        if tolerant.fits(request, tolerance * limit_s):
            return
        slow_step = self._step_seconds(request) > self.max_step_s
        raise BeyondTimeLimitError(self._message(request, limit_s, jobs_s), "size" if slow_step else "steps")

    def _step_seconds(self, request: GenerationRequest) -> float:
        return self.times.seconds(request.width * request.height) * (1 + self._control_share(request))

    def _control_share(self, request: GenerationRequest) -> float:
        return 0.0 if request.control is None else dict(self.controls).get(request.control.name, 0.0)

    def _message(self, request: GenerationRequest, limit_s: float, jobs_s: float) -> str:
        step_s, count = self._step_seconds(request), len(request.seeds)
        images = f"{count} images of {_size(request)}" if count > 1 else _size(request)
        taken, limit = f"about {_seconds(self.seconds(request))} s here", f"{_seconds(limit_s)} s"
        if step_s > self.max_step_s:
            taken, limit = f"about {_seconds(step_s)} s a step here", f"{_seconds(self.max_step_s)} s a step"
        remedies = [f"at most {' or '.join(fitting)} would fit"] if (fitting := self._fitting(request, limit_s)) else []
        fields, control = "size, steps", ""
        if self._control_share(request):
            fields, control = "size, steps, control", " and its control"
            if self.fits(replace(request, control=None), limit_s):
                remedies.append("without control it would fit")
        if limit_s < jobs_s:
            remedies += self._as_job(request, limit_s, jobs_s)
        head = f"{fields}: {images} with {_steps(request)}{control} takes {taken}, and may take {limit}"
        return "; ".join([head, *remedies])

    def _fitting(self, request: GenerationRequest, limit_s: float) -> list[str]:
        fewer = next((each for each in _with_fewer_steps(request) if self.fits(each, limit_s)), None)
        smaller = self._largest(request, limit_s)
        fitting = [] if fewer is None else [f"{_steps(fewer)} at this size"]
        return fitting if smaller is None else [*fitting, f"{_size(smaller)} with {_steps(smaller)}"]

    def _as_job(self, request: GenerationRequest, limit_s: float, jobs_s: float) -> list[str]:
        if self.fits(request, jobs_s):
            return [f"POST /v1/jobs takes it, for up to {_seconds(jobs_s)} s"]
        larger = self._largest(request, jobs_s)
        if larger is None or larger == self._largest(request, limit_s):
            return []
        return [f"POST /v1/jobs takes {_size(larger)} with {_steps(larger)}, for up to {_seconds(jobs_s)} s"]

    def _largest(self, request: GenerationRequest, limit_s: float) -> GenerationRequest | None:
        """The request with the largest size of its shape that fits, if there is one."""
        return next((each for each in _with_smaller_sizes(request) if self.fits(each, limit_s)), None)


def _with_fewer_steps(request: GenerationRequest) -> Iterator[GenerationRequest]:
    for steps in range(request.steps - 1, 0, -1):
        fewer = replace(request, steps=steps)
        if fewer.made_steps > 0:
            yield fewer


def _with_smaller_sizes(request: GenerationRequest) -> Iterator[GenerationRequest]:
    """Requests with smaller sizes of the same shape, as far as the grid of sides allows, the largest first."""
    width, height = request.width, request.height
    for longer in range(max(width, height) - _GRID, 0, -_GRID):
        smaller = [max(_GRID, side * longer // max(width, height) // _GRID * _GRID) for side in (width, height)]
        yield replace(request, width=smaller[0], height=smaller[1])


def _size(request: GenerationRequest) -> str:
    return f"{request.width}x{request.height}"


def _steps(request: GenerationRequest) -> str:
    return "1 step" if request.steps == 1 else f"{request.steps} steps"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"


#: Nothing is known.
UNKNOWN_SPEED = GeneratorSpeed()
