"""What is too large for the machine is refused with what is not; what is slow does not hang."""

from __future__ import annotations

import pytest

from components.engine.stats import Stats
from components.engine.step_times import StepTimes
from deploy.generator.size_limits import SizeLimits
from deploy.interfaces.errors import UnsupportedRequestError
from deploy.status.readiness import UnhealthyError, check_progress

LIMITS = SizeLimits(StepTimes({64 * 64: 0.1, 128 * 128: 0.4, 256 * 256: 1.6}), step_s=5, jobs_s=3600)


def refusal(size: tuple[int, int], steps: int, images: int = 1, timeout_s: float | None = 300) -> str:
    with pytest.raises(UnsupportedRequestError) as refused:
        LIMITS.check(size, steps, images, timeout_s)
    assert refused.value.param == "size"
    return str(refused.value)


def test_what_can_be_done_in_time_is_allowed() -> None:
    LIMITS.check((256, 256), 100, 1, 300)
    LIMITS.check((256, 256), 1000, 1, None)
    SizeLimits().check((2048, 2048), 100, 10, 1)


def test_a_step_that_holds_up_all_others_is_refused() -> None:
    said = refusal((1024, 1792), 4)
    assert said.startswith("size: 1024x1792 with 4 steps is too large: one of its steps takes about 1254 s")
    largest = said.rpartition("is ")[2]
    width, height = map(int, largest.split("x"))
    LIMITS.check((width, height), 4, 1, 300)
    assert "jobs" not in said, "a job may not hold up the others either"


def test_many_steps_are_referred_to_jobs() -> None:
    said = refusal((256, 256), 100, images=4)
    assert "with 100 steps and n=4 is too large: it takes about 640 s here, and at most 300 s" in said
    assert said.endswith("POST /v1/jobs takes this one, for up to 3600 s")
    LIMITS.check((256, 256), 100, 4, 3600)
    assert "jobs" not in refusal((256, 256), 1000, 10, timeout_s=3600)


def test_a_slow_step_does_not_hang() -> None:
    def stats(silent_s: float, expected_s: float) -> Stats:
        return Stats(0, 1, 0, 0, 0, 1, 0.0, 0.0, 1, 0.0, 1, {}, silent_s, expected_s)

    check_progress([stats(100, 0), stats(150, 5)], 120)
    for stuck in (stats(121, 0), stats(171, 5)):
        with pytest.raises(UnhealthyError, match="no progress"):
            check_progress([stats(1, 0), stuck], 120)
