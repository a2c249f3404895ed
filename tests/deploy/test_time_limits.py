"""Requests that would take longer than they may are refused before anything is charged or computed for them."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.access.key import KeyLimits, Scope
from components.access.limits import UsageLedger
from components.access.store import KeyStore
from components.config import load_config
from components.database import open_service_database
from components.engine.step_times import StepTimes
from deploy.api.time_limits import TimeLimits
from deploy.characters.service import CharacterService
from deploy.generator.loading import VersionLoader
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import BeyondTimeLimitError
from deploy.interfaces.generator_speed import GeneratorSpeed
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult
from deploy.status.metrics import GeneratorMetrics
from deploy.status.replica_status import RecentReports, ReplicaReport, ReplicaStatus
from tests.deploy.test_serving_api import photograph
from tests.deploy.test_serving_generator import StoredTokens
from tests.fakes import pipeline as fakes
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import QUICK, running

REQUEST = GenerationRequest("a robot", "", 64, 64, 10, 3.5, (1,), (), None)
#: A second for a step of 64 x 64; a step of 128 x 128 is too slow.
SPEED = GeneratorSpeed(StepTimes({64 * 64: 1.0, 128 * 128: 4.0}), 64 * 64, max_step_s=3, controls=(("pose", 0.5),))
SETTINGS = load_config("tiny", ["serving.request_timeout_s=60", "serving.jobs.timeout_s=200"]).serving
IMAGES = "/v1/images/generations"


def accepted(request: GenerationRequest, *speeds: GeneratorSpeed | None) -> bool:
    async def check() -> bool:
        status = ReplicaStatus()
        for number, speed in enumerate(speeds):
            await status.report(ReplicaReport("generator", str(number), speed=speed))
        try:
            await TimeLimits(RecentReports(status), SETTINGS).check(request)
        except BeyondTimeLimitError:
            return False
        return True

    return asyncio.run(check())


def test_a_request_has_its_own_limit_or_that_of_the_gateway() -> None:
    assert accepted(replace(REQUEST, steps=60), SPEED) and not accepted(replace(REQUEST, steps=61), SPEED)
    job = replace(REQUEST, steps=200, timeout_s=200)
    assert accepted(job, SPEED) and not accepted(replace(job, steps=201), SPEED)


def test_any_generator_may_get_a_request() -> None:
    fast, unlimited = replace(SPEED, times=StepTimes({64 * 64: 0.1})), replace(SPEED, max_step_s=9)
    slow = replace(REQUEST, steps=100)
    assert accepted(slow, fast) and not accepted(slow, fast, SPEED) and not accepted(slow, SPEED, fast)
    large = replace(REQUEST, width=128, height=128)
    assert accepted(large, unlimited) and not accepted(large, unlimited, SPEED)
    assert accepted(slow) and accepted(slow, None), "nothing is known"


def test_limits_hold_while_no_generator_is_needed() -> None:
    async def check() -> None:
        now = 0.0
        status = ReplicaStatus(keep_s=10, clock=lambda: now)
        limits = TimeLimits(RecentReports(status, max_age_s=-1), SETTINGS)
        await status.report(ReplicaReport("generator", "1", speed=SPEED))
        await limits.check(REQUEST)
        now = 20.0
        assert await status.read() == []
        with pytest.raises(BeyondTimeLimitError):
            await limits.check(replace(REQUEST, steps=61))

    asyncio.run(check())


class CountingGenerator(GenerationService):
    """Counts the requests that reach it."""

    requests = 0

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        self.requests += 1
        return await super().generate(request)

    async def stream(self, request: GenerationRequest, previews: int = 0) -> AsyncGenerator[GenerationEvent, None]:
        self.requests += 1
        async for event in super().stream(request, previews):
            yield event


class Service:
    """A running service whose generators have reported `SPEED`, and a key with a daily limit."""

    def __init__(
        self, url: str, ledger: UsageLedger, key: str, generator: CountingGenerator, status: ReplicaStatus
    ) -> None:
        self._ledger, self.generator, self.status = ledger, generator, status
        self.client = httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {key}"})

    def spent(self) -> int:
        return sum(self._ledger.spent().values())

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return self.client.post(path, json={"prompt": "a robot", "size": "64x64"} | fields)

    def edit(self, **fields: Any) -> httpx.Response:
        form = {"prompt": "a robot", "size": "64x64"} | fields
        return self.client.post("/v1/images/edits", data=form, files={"image": ("a.png", photograph())})


@contextmanager
def service(folder: Path, *settings: str) -> Iterator[Service]:
    quick = [f"serving.store={folder}/store", "serving.access.keys=required", "serving.access.refresh_s=0.05", *QUICK]
    limits = ["serving.request_timeout_s=60", "serving.jobs.timeout_s=200", "serving.max_steps=500", *settings]
    config = load_config("tiny", [*quick, *limits])
    engine = open_service_database(config.serving)
    _, key = KeyStore(engine).create("ada", "test", [Scope.ADMIN], KeyLimits(pixel_steps_per_day=10**9))
    status = ReplicaStatus(keep_s=math.inf)
    asyncio.run(status.report(ReplicaReport("generator", "generator-1", speed=SPEED)))
    generator = CountingGenerator(FakePipeline(), CharacterService(config))
    with running(config, generator, status) as url:
        yield Service(url, UsageLedger(engine), key, generator, status)


def refused(response: httpx.Response, param: str, remedy: str) -> None:
    assert response.status_code == 400, response.text
    told = response.json()["error"]
    assert (told["code"], told["param"]) == ("beyond_time_limit", param)
    assert told["message"].startswith("size, steps: ") and remedy in told["message"]


def test_every_route_refuses_before_it_charges_and_encodes(tmp_path: Path) -> None:
    with service(tmp_path) as tested:
        for path in (IMAGES, "/v1/characters/candidates"):
            refused(tested.post(path, steps=90, n=1), "steps", "POST /v1/jobs takes it, for up to 200 s")
            refused(tested.post(path, steps=3, size="128x128"), "size", " with 3 steps would fit")
        refused(tested.post(IMAGES, steps=90, stream=True), "steps", "POST /v1/jobs takes it")
        for fields in ({"target_word": "robot"}, {"redraw_strength": 1.0}):
            refused(tested.edit(steps=90, **fields), "steps", "at most 60 steps at this size")
            refused(tested.edit(steps=3, size="128x128", **fields), "size", "would fit")
        refused(tested.post("/v1/jobs", steps=201), "steps", "at most 200 steps at this size")
        refused(tested.post("/v1/jobs", steps=3, size="128x128"), "size", "would fit")
        assert tested.spent() == 0 and tested.generator.requests == 0, "nothing is charged or computed"
        assert tested.post("/v1/jobs", steps=60).status_code == 202


def test_a_control_counts_in_every_route_before_its_picture_is_decoded(tmp_path: Path) -> None:
    undecodable = {"name": "pose", "image": base64.b64encode(b"no picture").decode()}
    with service(tmp_path, "model.controls={pose: controls/pose}") as tested:
        for path, steps, remedy in (
            (IMAGES, 50, "without control it would fit"),
            ("/v1/jobs", 150, "at most 133 steps"),
        ):
            answer = tested.post(path, steps=steps, control=undecodable)
            told = answer.json()["error"]
            assert (answer.status_code, told["code"]) == (400, "beyond_time_limit"), answer.text
            assert told["message"].startswith("size, steps, control: ") and remedy in told["message"]
            fewer = tested.post(path, steps=30, control=undecodable).json()["error"]
            assert fewer["code"] == "invalid_picture", "it is within its limit"
        assert tested.spent() == 0 and tested.generator.requests == 0


def test_panels_of_stories_are_refused_with_the_reason(tmp_path: Path) -> None:
    with service(tmp_path) as tested:
        story = tested.client.post("/v1/stories", json={"title": "t", "script": "a robot"}).json()
        path, panel = f"/v1/stories/{story['id']}", story["panels"][0]["id"]

        def drawn(**sampling: Any) -> dict[str, Any]:
            changed = tested.client.patch(f"{path}/panels/{panel}", json=sampling)
            assert changed.status_code == 200, changed.text
            answer = tested.client.post(f"{path}/draw", json={})
            assert answer.status_code == 202, answer.text
            return dict(answer.json())

        answer = drawn(steps=201, size="64x64")
        assert answer["data"] == [] and "at most 200 steps at this size" in answer["skipped"][0]["reason"]
        stored = tested.client.get(path).json()["panels"][0]["error"]
        assert (stored["code"], stored["param"]) == ("beyond_time_limit", "steps")
        answer = drawn(steps=3, size="128x128")
        assert answer["data"] == [] and "a step" in answer["skipped"][0]["reason"]
        assert tested.spent() == 0
        assert len(drawn(steps=2, size="64x64")["data"]) == 1
        deadline = time.monotonic() + 20
        while not (takes := tested.client.get(path).json()["panels"][0]["takes"]):
            assert time.monotonic() < deadline, "the panel is not drawn"
            time.sleep(0.05)
        slower = GeneratorSpeed(StepTimes({64 * 64: 150.0}))
        asyncio.run(tested.status.report(ReplicaReport("generator", "generator-1", speed=slower)))
        redraw = f"{path}/takes/{takes[0]['id']}/redraw"
        while (again := tested.client.post(redraw, json={"strength": 1.0})).status_code == 202:
            assert time.monotonic() < deadline, "the report is read every two seconds"
            time.sleep(0.5)
        refused(again, "steps", "at most 1 step at this size")


def test_the_generator_is_the_last_guard() -> None:
    """Without a report, as while the first generator starts, the gateway knows nothing."""
    generator = GenerationService(FakePipeline(), StoredTokens(), speed=SPEED)
    try:
        with pytest.raises(BeyondTimeLimitError):
            asyncio.run(generator.generate(replace(REQUEST, steps=100, timeout_s=60)))
        with pytest.raises(BeyondTimeLimitError):
            asyncio.run(generator.generate(replace(REQUEST, width=256, height=256, steps=1)))
        assert asyncio.run(generator.generate(replace(REQUEST, steps=3, timeout_s=60))).images
    finally:
        assert generator.close(10)


@pytest.mark.parametrize("warm_up_s", [60, 1e-9])
def test_a_generator_measures_its_steps_before_it_takes_requests(warm_up_s: float) -> None:
    config = load_config("tiny", [f"serving.warm_up_s={warm_up_s}"])
    generator = VersionLoader(config, fakes, "realcustom-tiny", StoredTokens(), GeneratorMetrics())("7")
    speed, side = generator.speed, config.sampling.width
    assert min(speed.times.measured) == side**2, "the configured size is measured however slow the warm-up is"
    assert (len(speed.times.measured) > 1) == (warm_up_s == 60)
    assert speed.budget == generator.stats().budget and speed.max_step_s >= config.serving.max_step_s
    assert generator.close(10)
