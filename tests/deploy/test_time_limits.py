"""Requests that would take longer than they may are refused before anything is computed for them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import load_config
from deploy.api.time_limits import TimeLimits, least_seconds
from deploy.generator.loading import VersionLoader
from deploy.interfaces.errors import BeyondTimeLimitError
from deploy.interfaces.requests import GenerationRequest
from deploy.status.metrics import GeneratorMetrics
from deploy.status.replica_status import RecentReports, ReplicaReport, ReplicaStatus, StepTime
from tests.deploy.test_serving_generator import StoredTokens
from tests.fakes import pipeline as fakes
from tests.fakes.in_process_service import running_service

REQUEST = GenerationRequest("a robot", "", 1024, 1024, 50, 3.5, (1,), (), None)
#: A quarter of a second for a step of 512 x 512; two images of 1024 x 1024 together.
TIME = StepTime(0.25, 512 * 512, 2 * 1024 * 1024)
SIDES = st.integers(1, 256).map(lambda number: 8 * number)


def checked(request: GenerationRequest, limit_s: float, *times: StepTime | None) -> str | None:
    """The refusal, if the request is refused."""

    async def check() -> str | None:
        status = ReplicaStatus()
        for number, time in enumerate(times):
            await status.report(ReplicaReport("generator", str(number), step_time=time))
        try:
            await TimeLimits(RecentReports(status)).check(request, limit_s, "; POST /v1/jobs takes longer")
        except BeyondTimeLimitError as error:
            return str(error)
        return None

    return asyncio.run(check())


def test_one_measured_size_tells_of_others() -> None:
    assert least_seconds(REQUEST, TIME) == 50
    assert least_seconds(replace(REQUEST, width=512, height=512), TIME) == 12.5
    assert least_seconds(replace(REQUEST, seeds=(1, 2)), TIME) == 50, "they share their steps"
    assert least_seconds(replace(REQUEST, seeds=(1, 2, 3)), TIME) == 100
    assert least_seconds(replace(REQUEST, width=2048, height=2048, seeds=(1, 2)), TIME) == 400, "one after the other"


def test_the_refusal_names_what_would_fit() -> None:
    message = checked(REQUEST, 20, TIME)
    assert message == (
        "size, steps: 1024x1024 with 50 steps takes about 50 s here, and may take 20 s; at most 20 steps at this size "
        "or 640x640 with 50 steps would fit; POST /v1/jobs takes longer"
    )
    assert checked(REQUEST, 60, TIME) is None
    assert checked(REQUEST, 20, TIME, replace(TIME, seconds=0.05)) is None, "one of the generators is fast enough"
    assert checked(REQUEST, 0.001) is None and checked(REQUEST, 0.001, None) is None, "nothing is known"


@given(SIDES, SIDES, st.integers(1, 150), st.integers(1, 10), st.floats(0.1, 1000))
def test_what_is_said_to_fit_is_accepted(width: int, height: int, steps: int, images: int, limit_s: float) -> None:
    request = replace(REQUEST, width=width, height=height, steps=steps, seeds=tuple(range(images)))
    message = checked(request, limit_s, TIME)
    assert (message is None) == (least_seconds(request, TIME) <= limit_s)
    for fewer in re.findall(r"(\d+) steps at this size", message or ""):
        assert checked(replace(request, steps=int(fewer)), limit_s, TIME) is None
    for smaller in re.findall(r"(\d+x\d+) with \d+ steps would", message or ""):
        smaller_width, smaller_height = map(int, smaller.split("x"))
        assert smaller_width % 8 == smaller_height % 8 == 0
        assert checked(replace(request, width=smaller_width, height=smaller_height), limit_s, TIME) is None


def test_the_service_refuses_and_names_the_jobs(tmp_path: Path) -> None:
    settings = [f"serving.store={tmp_path}", "serving.rollout.poll_s=0", "serving.request_timeout_s=60"]
    config = load_config("tiny", [*settings, "serving.jobs.timeout_s=200"])

    async def ask() -> None:
        async with running_service(config) as service:
            slow = ReplicaReport("generator", "generator-1", step_time=StepTime(1.0, 64 * 64, 64 * 64))
            await service.status.report(slow)
            service.status.report = _ignored  # type: ignore[method-assign]
            refused = await service.draw(steps=90)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "beyond_time_limit")
            assert refused.json()["error"]["message"].endswith("POST /v1/jobs takes up to 200 s")
            assert (await service.draw(steps=3)).status_code == 200
            job = await service.client.post("/v1/jobs", json={"prompt": "a robot", "steps": 90})
            assert job.status_code == 202
            long = await service.client.post("/v1/jobs", json={"prompt": "a robot", "steps": 90, "size": "128x128"})
            assert (long.status_code, long.json()["error"]["code"]) == (400, "beyond_time_limit")

    asyncio.run(ask())


async def _ignored(_: ReplicaReport) -> None:
    return None


@pytest.mark.parametrize("leaves_time", [True, False])
def test_a_generator_measures_its_step_before_it_takes_requests(leaves_time: bool) -> None:
    config = load_config("tiny", [] if leaves_time else ["serving.warm_up_s=1e-9"])
    service = VersionLoader(config, fakes, "realcustom-tiny", StoredTokens(), GeneratorMetrics())("7")
    if leaves_time:
        assert service.step_time is not None and service.step_time.pixels == config.sampling.width**2
        assert service.step_time.seconds >= 0 and service.step_time.budget == service.stats().budget
    else:
        assert service.step_time is None
    assert service.close(10)
