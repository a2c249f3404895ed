"""What a generator's measured steps allow: one rule for sizes, steps, numbers of images and samplers."""

from __future__ import annotations

import math
import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.engine.step_times import StepTimes
from deploy.interfaces.errors import BeyondTimeLimitError, describe_error
from deploy.interfaces.generator_speed import UNKNOWN_SPEED, GeneratorSpeed
from deploy.interfaces.requests import GenerationRequest, RequestedControl, RequestedRedraw

REQUEST = GenerationRequest("a robot", "", 1024, 1024, 50, 3.5, (1,), (), None)
#: A second for a step of 1024 x 1024, four for one of 2048 x 2048; two images of 1024 x 1024 together.
SPEED = GeneratorSpeed(StepTimes({1024**2: 1.0, 2048**2: 4.0}), 2 * 1024**2, max_step_s=5)
JOBS_S = 3600.0
SIDES = st.integers(1, 512).map(lambda number: 8 * number)


def refusal(request: GenerationRequest, limit_s: float, speed: GeneratorSpeed = SPEED, jobs_s: float = JOBS_S) -> str:
    """The message of the refusal; empty if the request is accepted."""
    try:
        speed.check(request, limit_s, jobs_s)
    except BeyondTimeLimitError as error:
        return str(error)
    return ""


def sized(size: str, request: GenerationRequest = REQUEST) -> GenerationRequest:
    width, height = map(int, size.split("x"))
    return replace(request, width=width, height=height)


def test_seconds_follow_from_size_steps_and_number() -> None:
    assert SPEED.seconds(REQUEST) == 50
    assert SPEED.seconds(sized("512x512")) == pytest.approx(12.5)
    assert SPEED.seconds(replace(REQUEST, seeds=(1, 2))) == 50, "they share their steps"
    assert SPEED.seconds(replace(REQUEST, seeds=(1, 2, 3))) == 100
    assert SPEED.seconds(sized("2048x2048", replace(REQUEST, seeds=(1, 2)))) == 400, "one after the other"


def test_calls_of_the_network_count_not_steps() -> None:
    heun = replace(REQUEST, scheduler="heun")
    assert SPEED.seconds(heun) == 99, "two calls a step, and one in the last"
    assert not refusal(REQUEST, 60)
    said = re.search(r"at most (\d+) steps at this size", refusal(heun, 60))
    assert said is not None and said[1] == "30"
    assert SPEED.seconds(replace(REQUEST, redraw=RequestedRedraw(0.5))) == 25, "a part of the steps is made"


def test_a_control_lengthens_the_steps_in_which_it_acts() -> None:
    speed = replace(SPEED, controls=(("pose", 0.5), ("depth", 0.0)))
    posed = replace(REQUEST, control=RequestedControl("pose", b""))
    assert speed.seconds(posed) == 75 and speed.seconds(REQUEST) == 50
    assert speed.seconds(replace(REQUEST, control=RequestedControl("depth", b""))) == 50
    assert speed.seconds(replace(REQUEST, control=RequestedControl("pose", b"", 1.0, 0.2, 0.6))) == pytest.approx(60)
    said = refusal(posed, 60, speed)
    assert said.startswith("size, steps, control: 1024x1024 with 50 steps and its control takes about 75 s here")
    assert "at most 40 steps at this size or" in said and "; without control it would fit; POST /v1/jobs" in said
    assert "without control" not in refusal(posed, 40, speed) and not refusal(posed, 75, speed)
    assert "4.5 s a step" in refusal(posed, 60, replace(speed, times=StepTimes({1024**2: 3.0}), max_step_s=4))


def test_the_message_names_size_steps_what_would_fit_and_the_jobs() -> None:
    assert refusal(REQUEST, 20) == (
        "size, steps: 1024x1024 with 50 steps takes about 50 s here, and may take 20 s; at most 20 steps at this size "
        "or 640x640 with 50 steps would fit; POST /v1/jobs takes it, for up to 3,600 s"
    )
    several = refusal(replace(REQUEST, seeds=(1, 2, 3)), 20)
    assert several.startswith("size, steps: 3 images of 1024x1024 with 50 steps takes about 100 s here")
    assert not refusal(REQUEST, 50)


def test_what_is_too_much_for_a_job_is_told_what_a_job_may_be() -> None:
    long = replace(REQUEST, steps=100)
    assert refusal(long, 20, jobs_s=60).endswith("; POST /v1/jobs takes 792x792 with 100 steps, for up to 60 s")
    assert "jobs" not in refusal(long, 60, jobs_s=60), "it is a job"


def test_a_step_that_holds_up_all_others_is_refused_to_jobs_too() -> None:
    tall = sized("2048x3584", replace(REQUEST, steps=4))
    said = refusal(tall, 300)
    assert said.startswith("size, steps: 2048x3584 with 4 steps takes about 12 s a step here, and may take 5 s a step;")
    largest = re.search(r"at most (\d+x\d+) with 4 steps would fit$", said)
    assert largest is not None, "fewer steps do not help, and a job may not hold up the others either"
    assert not refusal(sized(largest[1], tall), 300) and not refusal(sized(largest[1], tall), JOBS_S)
    with pytest.raises(BeyondTimeLimitError) as refused:
        SPEED.check(tall, JOBS_S, JOBS_S)
    assert describe_error(refused.value)[::2] == (400, "size"), "the field at fault"
    assert describe_error(pickle.loads(pickle.dumps(refused.value))) == describe_error(refused.value)


def test_what_the_gateway_accepts_a_somewhat_slower_generator_does() -> None:
    slower = GeneratorSpeed(StepTimes({1024**2: 1.4, 2048**2: 5.6}), SPEED.budget, SPEED.max_step_s)
    for request, limit_s in ((REQUEST, 50), (sized("2048x2048"), 300)):
        assert not refusal(request, limit_s) and refusal(request, limit_s, slower)
        slower.check(request, limit_s, JOBS_S, tolerance=1.5)
    with pytest.raises(BeyondTimeLimitError):
        slower.check(REQUEST, 40, JOBS_S, tolerance=1.5)


def test_nothing_is_refused_where_nothing_is_known() -> None:
    assert not refusal(sized("8192x8192"), 0.001, UNKNOWN_SPEED)
    assert not refusal(REQUEST, math.inf)


@given(SIDES, SIDES, st.integers(1, 150), st.integers(1, 10), st.floats(0.1, 1000), st.sampled_from([None, "heun"]))
def test_what_is_said_to_fit_is_accepted(
    width: int, height: int, steps: int, images: int, limit_s: float, sampler: str | None
) -> None:
    request = replace(REQUEST, steps=steps, seeds=tuple(range(images)), scheduler=sampler)
    request = replace(request, width=width, height=height)
    message = refusal(request, limit_s)
    assert (not message) == SPEED.fits(request, limit_s)
    for fewer in re.findall(r"(\d+) steps? at this size", message):
        assert not refusal(replace(request, steps=int(fewer)), limit_s)
        assert refusal(replace(request, steps=int(fewer) + 1), limit_s)
    for smaller in re.findall(r"(\d+x\d+) with \d+ steps? would", message):
        assert all(int(side) % 8 == 0 for side in smaller.split("x"))
        assert not refusal(sized(smaller, request), limit_s)
    if "jobs takes it" in message:
        assert not refusal(request, JOBS_S)
    for larger in re.findall(r"jobs takes (\d+x\d+)", message):
        assert not refusal(sized(larger, request), JOBS_S) and refusal(sized(larger, request), limit_s)
