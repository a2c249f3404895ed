"""More than the service can take, and parts that do not answer: who is refused, until when, and who is ready."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import load_config
from components.engine.budget import measure_budget
from components.engine.engine import Engine
from components.engine.policy import has_room
from components.engine.request import ClosedError, ExcessError, FullError, Phase, Request
from components.engine.stats import Stats
from components.engine.warmup import warm_up
from components.errors import ConfigError
from components.jobs.job import JobProgress
from deploy import app
from deploy.api.retry_after import backlog_retry_after_s
from deploy.generator.loading import VersionLoader, warm_up_requests
from deploy.generator.service import GenerationService, GeneratorLimits
from deploy.interfaces.errors import BusyError, OwnerLimitError, ReplicaDiedError, UnavailableError
from deploy.interfaces.results import GenerationResult
from deploy.status.metrics import GeneratorMetrics
from deploy.status.readiness import UnhealthyError, awaited_resources, check_progress, readiness_problems
from deploy.status.replica_status import ReplicaReport, ReplicaStatus, read_reports
from tests.deploy.test_serving_generator import PLAIN, StoredTokens
from tests.fakes import pipeline as fakes
from tests.fakes.in_process_service import generators, running_service, wait_until
from tests.fakes.pipeline import FakePipeline

SLOW = replace(PLAIN, prompt="a slow robot", steps=10)
TINY = load_config("tiny")


def asked(prompt: str = "a robot", owner: str = "", steps: int = 3) -> Request:
    return Request(prompt, 1, 64, 64, steps, 3.5, owner=owner)


@pytest.fixture
def engine() -> Any:
    """One that draws one picture at a time, of which three may wait, and two of one owner."""
    made = Engine(FakePipeline(), 64 * 64, max_queued=3, max_owned=2)
    yield made
    made.abandon()
    assert made.close(10)


def occupied(engine: Engine) -> Engine:
    """With a picture that is being drawn, so that others wait."""
    engine.submit(asked("a sluggish robot"))
    while not engine.stats().denoising:
        time.sleep(0.005)
    return engine


# The engine's queue


@given(st.integers(0, 99), st.integers(1, 99), st.none() | st.integers(1, 99))
def test_only_those_who_find_a_queue_empty_may_be_more_than_it_takes(w: int, more: int, most: int | None) -> None:
    if has_room(w, more, most):
        assert most is None or w == 0 or w + more <= most
        assert has_room(w, max(1, more - 1), most), "fewer would be let in too"
    else:
        assert most is not None and w > 0 and w + more > most


def test_requests_are_queued_all_or_none(engine: Engine) -> None:
    occupied(engine).submit_all([asked(), asked()])
    with pytest.raises(FullError):
        engine.submit_all([asked(), asked()])
    assert engine.stats().queued == 2
    engine.submit(asked())
    with pytest.raises(FullError):
        engine.submit(asked())


def test_an_owner_may_fill_its_share_and_leaves_the_rest_to_others(engine: Engine) -> None:
    occupied(engine).submit_all([asked(owner="greedy"), asked(owner="greedy")])
    with pytest.raises(ExcessError):
        engine.submit(asked(owner="greedy"))
    engine.submit(asked(owner="modest"))
    with pytest.raises(FullError) as full:
        engine.submit(asked(owner="late"))
    assert not isinstance(full.value, ExcessError), "it is not their own excess"


def test_the_backlog_is_about_as_long_as_it_takes(engine: Engine) -> None:
    first = engine.submit(asked("a slow robot", steps=5))
    first.result(10)
    assert engine.stats().backlog_s == 0, "nothing is left"
    engine.submit_all([asked("a slow robot", steps=5) for _ in range(2)])
    started, expected = time.monotonic(), engine.stats().backlog_s
    assert 0.7 < expected < 2
    while engine.stats().backlog_s:
        time.sleep(0.01)
    assert time.monotonic() - started == pytest.approx(expected, rel=0.5)


# A stuck pipeline


def test_a_step_that_is_expected_to_be_slow_does_not_hang() -> None:
    def stats(silent_s: float, expected_s: float) -> Stats:
        return Stats(0, 1, 0, 0, 0, 1, 0.0, 0.0, 1, 0.0, 1, {}, silent_s, expected_s)

    check_progress([stats(100, 0), stats(150, 5)], 120)
    for stuck in (stats(121, 0), stats(171, 5)):
        with pytest.raises(UnhealthyError, match="no progress"):
            check_progress([stats(1, 0), stuck], 120)


def test_a_pipeline_that_does_not_come_back_is_noticed_and_given_up() -> None:
    pipeline = FakePipeline()
    service = GenerationService(pipeline, StoredTokens())
    check_progress([service.stats()], 0.0)

    async def hang() -> list[Any]:
        begun = [asyncio.create_task(service.generate(o)) for o in (replace(PLAIN, prompt="endless"), SLOW, SLOW)]
        while service.stats().silent_s < 0.3:
            await asyncio.sleep(0.01)
        with pytest.raises(UnhealthyError, match="stuck_s"):
            check_progress([service.stats()], 0.25)
        check_progress([service.stats()], 60)
        service.abandon()
        return await asyncio.wait_for(asyncio.gather(*begun, return_exceptions=True), 5)

    errors = asyncio.run(hang())
    assert all(isinstance(error, UnavailableError) for error in errors), "all are told at once"
    assert isinstance(errors[0], ReplicaDiedError), "it was worked on; the others, where they had begun"
    with pytest.raises(UnavailableError, match="restarted"):
        asyncio.run(service.generate(PLAIN))
    assert service.stats().ended == {Phase.FAILED: 3}
    assert service.stats().silent_s == 0, "nobody waits for it"


def test_what_is_done_beside_the_steps_can_be_stuck_too() -> None:
    engine = Engine(FakePipeline(), 64 * 64)
    engine.beside(time.sleep, 0.4)
    time.sleep(0.2)
    assert engine.stats().silent_s > 0.1
    assert engine.close(10)
    assert engine.stats().silent_s == 0
    with pytest.raises(ClosedError):
        engine.beside(time.sleep, 0)


def test_a_slow_step_is_not_a_stuck_one() -> None:
    service = GenerationService(FakePipeline(), StoredTokens())

    async def watch() -> float:
        drawing, silent = asyncio.create_task(service.generate(SLOW)), 0.0
        while not drawing.done():
            silent = max(silent, service.stats().silent_s)
            await asyncio.sleep(0.005)
        return silent

    assert asyncio.run(watch()) < 0.3, "each step is a sign of life"
    assert service.close(10)


def test_a_closing_generator_ends_what_it_has_begun_with_its_previews() -> None:
    service = GenerationService(FakePipeline(), StoredTokens())

    async def close() -> list[Any]:
        told = []
        async with aclosing(service.stream(SLOW, 3)) as news:
            async for each in news:
                if isinstance(each, JobProgress) and not told:
                    closing = asyncio.create_task(asyncio.to_thread(service.close, 10))
                told.append(each)
        assert await closing
        return told

    told = asyncio.run(close())
    assert isinstance(told[-1], GenerationResult) and sum(type(each).__name__ == "Preview" for each in told) >= 2


# When the refused may come back


def test_a_client_that_retries_after_retry_after_is_accepted() -> None:
    limits = GeneratorLimits(pixels=64 * 64, queued=2, timeout_s=60)
    service = GenerationService(FakePipeline(), StoredTokens(), limits)

    async def overload() -> BusyError:
        await service.generate(SLOW)
        begun = [asyncio.create_task(service.generate(SLOW))]
        await asyncio.sleep(0.1)
        begun += [asyncio.create_task(service.generate(SLOW)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError) as busy:
            await service.generate(SLOW)
        assert busy.value.retry_after_s is not None
        await asyncio.sleep(busy.value.retry_after_s)
        begun.append(asyncio.create_task(service.generate(SLOW)))
        assert all(isinstance(done, GenerationResult) for done in await asyncio.gather(*begun))
        return busy.value

    assert 0.3 < asyncio.run(overload()).retry_after_s < 1.5  # type: ignore[operator]
    assert service.close(10)


def test_the_wait_survives_the_way_between_processes() -> None:
    import ray.cloudpickle as way

    for error in (BusyError("too many", 2.5), OwnerLimitError("your own", 1), UnavailableError("restarted")):
        there = way.loads(way.dumps(error))
        assert (type(there), str(there), there.retry_after_s) == (type(error), str(error), error.retry_after_s)


@given(st.lists(st.floats(0, 1e6), max_size=4), st.floats(0, 1e6), st.sampled_from(["generator", "jobs"]))
def test_nobody_is_sent_away_for_less_because_more_waits(backlogs: list[float], more: float, part: str) -> None:
    def told(values: list[float]) -> int:
        reports = [ReplicaReport(part, str(i), backlog_s=value) for i, value in enumerate(values)]
        return backlog_retry_after_s([*reports, ReplicaReport("other", "x", backlog_s=1e9)], TINY.serving, part)

    assert 1 <= told(backlogs) <= 600
    assert told([value + more for value in backlogs]) >= told(backlogs)


def test_too_many_of_everybodys_is_503_with_an_honest_wait(tmp_path: Path) -> None:
    few = ["serving.max_queued_pictures=2", f"serving.pixel_budget={64 * 64}"]
    config = load_config("tiny", [f"serving.store={tmp_path}", "serving.rollout.poll_s=0", *few])

    async def overload() -> None:
        async with running_service(config) as service:
            assert (await service.draw("a slow robot")).status_code == 200
            begun = []
            for _ in range(3):
                begun.append(asyncio.create_task(service.draw("a sluggish robot")))
                await asyncio.sleep(0.3)
            refused = await service.draw()
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert 1 <= int(refused.headers["Retry-After"]) <= 10
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    asyncio.run(overload())


def test_an_owner_in_excess_is_told_so() -> None:
    service = GenerationService(FakePipeline(), StoredTokens(), GeneratorLimits(pixels=64 * 64, queued=9, owned=1))

    async def overload() -> list[Any]:
        requests = [replace(SLOW, owner=owner) for owner in ("greedy", "greedy", "greedy", "modest")]
        begun = [asyncio.create_task(service.generate(requests[0]))]
        await asyncio.sleep(0.1)
        begun += [asyncio.create_task(service.generate(request)) for request in requests[1:]]
        return await asyncio.gather(*begun, return_exceptions=True)

    results = asyncio.run(overload())
    assert [type(result) for result in results] == [
        GenerationResult,
        GenerationResult,
        OwnerLimitError,
        GenerationResult,
    ]
    assert service.close(10)


def test_late_requests_are_refused_in_json(tmp_path: Path) -> None:
    settings = [f"serving.store={tmp_path}", "serving.rollout.poll_s=0", "serving.request_timeout_s=0.5"]

    async def ask() -> None:
        async with running_service(load_config("tiny", settings)) as service:
            late = await service.draw("a sluggish robot", steps=60)
            assert late.status_code == 503 and late.json()["error"]["type"] == "server_error"
            assert int(late.headers["Retry-After"]) >= 1
            assert (await service.draw()).status_code == 200

    asyncio.run(ask())


def test_a_stream_that_takes_too_long_ends_with_an_error_event(tmp_path: Path) -> None:
    settings = [f"serving.store={tmp_path}", "serving.rollout.poll_s=0", "serving.request_timeout_s=2"]

    async def ask() -> str:
        async with running_service(load_config("tiny", settings)) as service:
            return (await service.draw("a sluggish robot", steps=12, stream=True, partial_images=3)).text

    text = asyncio.run(ask())
    *events, last, rest = text.split("\n\n")
    assert rest == "" and any(event.startswith("event: image_generation.partial_image") for event in events)
    kind, data = last.split("\n")
    assert kind == "event: error"
    told = json.loads(data.removeprefix("data: "))["error"]
    assert told["code"] == "overloaded" and "within 2 s" in told["message"]


# Readiness


def ready(*reports: ReplicaReport, least: int = 1) -> list[str]:
    return sorted(readiness_problems(reports, least))


def test_the_service_is_ready_when_a_replica_of_each_part_is() -> None:
    generator, jobs = ReplicaReport("generator", "1"), ReplicaReport("jobs", "1")
    broken = ReplicaReport("jobs", "2", problem="the database does not answer")
    assert ready() == ["generator", "jobs"]
    assert ready(generator) == ["jobs"] and ready(jobs) == ["generator"]
    assert ready(generator, jobs) == ready(generator, jobs, broken) == []
    assert readiness_problems([generator, broken], 1) == {"jobs": "the database does not answer"}
    assert ready(jobs, least=0) == [], "it may sleep"
    assert ready(generator, broken, least=0) == ["jobs"]


def test_readiness_names_the_processors_that_a_generator_waits_for() -> None:
    nodes = [{"CPU": 4.0, "memory": 1e9}, {"CPU": 8.0, "GPU": 1.0}]
    assert awaited_resources(nodes, {"CPU": 12.0, "GPU": 1.0}, 8, 1) is None
    missing = awaited_resources(nodes, {"CPU": 12.0, "GPU": 1.0}, 1, 2)
    assert missing is not None and missing.startswith("no node of the Ray cluster has the 1 CPU and 2 GPUs")
    apart = awaited_resources([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}], {"CPU": 9.0, "GPU": 1.0}, 4, 1)
    assert apart is not None and apart.startswith("no node"), "one node must have both"
    reserved = awaited_resources(nodes, {"CPU": 0.5}, 1, 1)
    assert reserved is not None and "reserved by others" in reserved
    assert awaited_resources([{"CPU": 1.0}], {"CPU": 1.0}, 1, 0) is None
    jobs = ReplicaReport("jobs", "1")
    assert readiness_problems([jobs], 1, missing) == {"generator": missing}
    assert readiness_problems([jobs, ReplicaReport("generator", "1")], 1, missing) == {}
    assert readiness_problems([jobs], 0, missing) == {}


def test_readiness_is_told_over_http_and_liveness_apart_from_it(tmp_path: Path) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}", "serving.rollout.poll_s=0"])

    async def ask() -> None:
        async with running_service(config) as service:
            await service.until_answered("/readyz", {"status": "ready"})
            await service.status.report(ReplicaReport("jobs", "jobs-1", problem="the database does not answer"))
            service.status.report = _deaf  # type: ignore[method-assign]
            answer = await service.client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["error"]["message"] == "not ready: jobs: the database does not answer"
            assert (await service.client.get("/healthz")).status_code == 200

    asyncio.run(ask())


async def _deaf(report: ReplicaReport) -> None:
    return None


def test_a_database_that_is_gone_is_trouble_and_comes_back(tmp_path: Path) -> None:
    from deploy.jobs.service import JobService

    config = load_config("tiny", [f"serving.store={tmp_path}"])
    jobs = JobService(config, None)  # type: ignore[arg-type]
    file = tmp_path / "characters.db"

    async def trouble() -> str | None:
        return (await jobs.report("1")).problem

    assert asyncio.run(trouble()) is None
    content = file.read_bytes()
    for part in tmp_path.glob("characters.db*"):
        part.unlink()
    file.mkdir()
    jobs._store._engine.dispose()
    assert asyncio.run(trouble()) == "the database does not answer"
    file.rmdir()
    file.write_bytes(content)


def test_replicas_that_are_silent_are_forgotten() -> None:
    now = [0.0]
    status = ReplicaStatus(keep_s=10, clock=lambda: now[0])

    async def read(at: float) -> list[str]:
        now[0] = at
        return [report.replica for report in await read_reports(status)]

    async def post(replica: str, at: float) -> None:
        now[0] = at
        await status.report(ReplicaReport("generator", replica))

    async def live() -> None:
        await post("a", 0)
        await post("b", 6)
        assert await read(9) == ["a", "b"]
        assert await read(12) == ["b"]
        await post("a", 13)
        assert sorted(await read(14)) == ["a", "b"]

    asyncio.run(live())


def test_a_board_that_does_not_answer_keeps_nobody_waiting() -> None:
    class Silent(ReplicaStatus):
        async def read(self) -> list[ReplicaReport]:
            await asyncio.sleep(60)
            return []

    started = time.monotonic()
    assert asyncio.run(read_reports(Silent(), timeout_s=0.05)) == []
    assert time.monotonic() - started < 5


# Warm before anybody comes


def test_every_size_is_drawn_alone_and_together_before_a_generator_is_ready() -> None:
    config = load_config("tiny", ["serving.warm_sizes=[64x64,96x64]", "serving.compile=true"])
    metrics = GeneratorMetrics()
    service = VersionLoader(config, fakes, "realcustom-tiny", StoredTokens(), metrics)("7")
    pipeline = service.pipeline
    assert isinstance(pipeline, FakePipeline) and pipeline.compiled
    sizes = {(probe.width, probe.height) for probe in warm_up_requests(pipeline, config)}
    assert sizes == {(64, 64), (96, 64)} and max(pipeline.calls) >= 2
    assert service.stats().ended == {} and service.stats().steps == 0, "it is not counted as anybody's"
    assert service.close(10)


def test_no_image_is_encoded_before_a_generator_is_ready() -> None:
    config = load_config("tiny", ["serving.pixel_budget=null"])
    service = VersionLoader(config, fakes, "realcustom-tiny", StoredTokens(), GeneratorMetrics())("7")
    pipeline = service.pipeline
    assert isinstance(pipeline, FakePipeline)
    assert pipeline.encoded == 0 and pipeline.identified == 1 and pipeline.calls
    assert service.close(10)


def test_a_warm_up_ends_in_time_and_leaves_the_smallest_budget() -> None:
    pipeline = FakePipeline()
    (probe, _) = warm_up_requests(pipeline, TINY)
    slow = replace(probe, prompt="a sluggish thing", steps=30)
    started = time.monotonic()
    assert not warm_up(pipeline, [slow], started + 0.35)
    assert time.monotonic() - started < 2 and 0 < len(pipeline.calls) < 30
    assert warm_up(pipeline, [probe], time.monotonic() + 60)
    steps = len(pipeline.calls)
    assert measure_budget(pipeline, probe, deadline=time.monotonic()) == probe.pixels
    assert len(pipeline.calls) == steps


def test_a_version_that_cannot_draw_is_not_ready() -> None:
    class Broken(FakePipeline):
        def finish(self, draft: Any) -> Any:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        warm_up(Broken(), warm_up_requests(FakePipeline(), TINY))


def test_the_budget_is_measured_once_for_all_versions() -> None:
    config = load_config("tiny", ["serving.pixel_budget=null"])
    loader = VersionLoader(config, fakes, "realcustom-tiny", StoredTokens(), GeneratorMetrics())
    first = loader("7")
    second = loader("8", first)
    calls = [len(service.pipeline.calls) for service in (first, second)]  # type: ignore[attr-defined]
    assert first.stats().budget == second.stats().budget and calls[1] < calls[0]
    assert first.close(10) and second.close(10)


def test_replicas_may_sleep_but_not_be_more_than_most() -> None:
    assert load_config("tiny", ["serving.min_replicas=0"]).serving.min_replicas == 0
    with pytest.raises(ConfigError, match="min_replicas"):
        load_config("tiny", ["serving.min_replicas=3", "serving.max_replicas=2"])


@pytest.mark.slow
def test_generators_sleep_and_wake_up(tmp_path: Path, ray_cluster: None) -> None:
    overrides = ["serving.port=0", "serving.min_replicas=0", "serving.max_replicas=1", "serving.scale_down_s=1"]
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.drain_s=1", *overrides])
    url = app.start(config, registry="tests.fakes.pipeline")
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)
            assert generators() == [], "ready, and asleep"
            started = time.monotonic()
            woken = client.post("/v1/images/generations", json={"prompt": "a robot", "steps": 3})
            assert woken.status_code == 200, woken.text
            print(f"\nthe first request took {time.monotonic() - started:.1f} s")
            assert len(generators()) == 1
            wait_until(lambda: generators() == [], 120)
            sent = client.post("/v1/jobs", json={"prompt": "a robot", "steps": 3})
            wait_until(lambda: client.get(sent.headers["Location"]).json()["status"] == "done")
    finally:
        app.stop()
