"""Jobs while the generator, the store or the database fail: none is lost, and no finished image is thrown away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError
from sqlalchemy.exc import OperationalError

from components.jobs.job import Lease, LeaseStatus
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.handles import RemoteGenerator
from deploy.interfaces.errors import ReplicaDiedError, TimeLimitError, UnavailableError
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationResult
from tests.deploy.test_serving_jobs import FailingGenerator, client_of, configured, results, submit, wait
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import SHORT_LEASE


class CountingGenerator(FailingGenerator):
    """Counts how often it was called."""

    calls = 0

    async def stream(self, *arguments: Any) -> AsyncGenerator[GenerationResult, None]:
        self.calls += 1
        async for result in super().stream(*arguments):
            yield result


@pytest.mark.parametrize(
    "fault",
    [UnavailableError("a part was restarted"), OperationalError("SELECT", {}, Exception("gone")), OSError("no route")],
)
def test_infrastructure_that_fails_uses_up_no_attempt(
    tmp_path: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.jobs.queue._SHORTEST_DELAY_S", 0.02)
    generator = CountingGenerator(*[fault] * 5)
    with client_of(configured(tmp_path), generator) as client:
        done = wait(client, submit(client)["id"])
    assert (done["status"], done["attempts"], generator.calls) == ("done", 1, 6)


def test_infrastructure_that_never_comes_back_ends_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.jobs.queue._SHORTEST_DELAY_S", 0.02)
    generator = CountingGenerator(*[UnavailableError("no generator is there")] * 999)
    with client_of(configured(tmp_path, "serving.jobs.give_up_s=2"), generator) as client:
        failed = wait(client, submit(client)["id"])
    assert failed["status"] == "failed" and failed["error"]["code"] == "gave_up"
    assert failed["error"]["message"].endswith("no generator is there") and generator.calls > 3


def test_a_missing_file_and_an_exceeded_time_limit_are_no_trouble_beside_it(tmp_path: Path) -> None:
    for fault in (FileNotFoundError("a picture"), TimeLimitError("not done in time")):
        generator = CountingGenerator(*[fault] * 9)
        with client_of(configured(tmp_path, "serving.jobs.max_attempts=2"), generator) as client:
            failed = wait(client, submit(client)["id"])
        assert failed["status"] == "failed" and failed["error"]["code"] == "attempts_exhausted"
        assert generator.calls == 2


def test_a_job_that_a_second_generator_dies_with_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.jobs.queue._SUSPECTED_DELAY_S", 0.05)
    for alone, calls in ((False, 2), (True, 1)):
        generator = CountingGenerator(*[ReplicaDiedError("a part was restarted", alone)] * 9)
        with client_of(configured(tmp_path), generator) as client:
            failed = wait(client, submit(client)["id"])
        assert failed["status"] == "failed" and failed["error"]["code"] == "process_killed"
        assert generator.calls == calls


@pytest.mark.parametrize(
    ("raised", "suspected"),
    [
        (RayActorError(), True),
        (OutOfMemoryError("the node's memory is used up"), True),
        (RayActorError(preempted=True), False),
    ],
)
def test_a_generator_whose_node_is_taken_back_accuses_no_job(raised: Exception, suspected: bool) -> None:
    class Handle:
        """A handle whose calls raise."""

        def options(self, **_: Any) -> Handle:
            return self

        stream = property(lambda self: self)

        def remote(self, *_: Any, **__: Any) -> Handle:
            return self

        def cancel(self) -> None: ...

        async def __aiter__(self) -> AsyncGenerator[None, None]:
            raise raised
            yield

    async def follow() -> None:
        async for _ in RemoteGenerator(Handle()).stream():  # type: ignore[arg-type]
            pass

    with pytest.raises(UnavailableError) as caught:
        asyncio.run(follow())
    assert isinstance(caught.value, ReplicaDiedError) is suspected


def test_a_store_that_fails_for_a_while_throws_no_image_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is away for longer than a lease, and the other worker does not take the job over."""
    write, tried = ResultFiles.write, list[float]()

    def interrupted(*arguments: Any) -> None:
        tried.append(time.monotonic())
        if tried[-1] < tried[0] + 4:
            raise OSError(28, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(ResultFiles, "write", interrupted)
    generator = CountingGenerator()
    with client_of(configured(tmp_path, "serving.jobs.lease_s=3"), generator) as client:
        done = wait(client, submit(client)["id"])
        assert (done["status"], done["attempts"], generator.calls) == ("done", 1, 1)
        assert len(results(tmp_path)) == 1


def test_a_store_that_stays_away_fails_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ResultFiles, "write", full)
    with client_of(configured(tmp_path, "serving.jobs.give_up_s=0.3"), CountingGenerator()) as client:
        failed = wait(client, submit(client)["id"])
    assert failed["error"] == {"message": "the result could not be stored", "code": "gave_up"}


def test_a_database_that_is_away_for_longer_than_a_lease_throws_no_image_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For everybody, also for those who look for jobs to take over."""
    away: list[float] = []

    def fault(name: str) -> Any:
        whole = getattr(JobQueue, name)

        def call(*arguments: Any) -> Any:
            if away and away[0] < time.monotonic() < away[0] + 1.5:
                raise OperationalError("UPDATE", {}, Exception("gone"))
            return whole(*arguments)

        return call

    for name in ("claim", "renew", "lease_status", "finish"):
        monkeypatch.setattr(JobQueue, name, fault(name))
    config = configured(tmp_path, SHORT_LEASE, "serving.jobs.concurrency=1")
    pipeline = FakePipeline()
    with client_of(config, GenerationService(pipeline, CharacterService(config))) as client:
        job = submit(client, prompt="a slow robot", steps=10)["id"]
        wait(client, job, "running")
        away.append(time.monotonic())
        done = wait(client, job)
    assert (done["status"], done["attempts"]) == ("done", 1)
    assert len(pipeline.calls) == 10, "every step was computed once"


def test_a_worker_that_only_loses_its_lease_has_not_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are not renewed for a while, and the other worker takes the job over again and again."""
    renew, back = JobQueue.renew, [float("inf")]

    def forgotten(queue: JobQueue, lease: Lease, *arguments: Any) -> LeaseStatus:
        return queue.lease_status(lease) if time.monotonic() < back[0] else renew(queue, lease, *arguments)

    monkeypatch.setattr(JobQueue, "renew", forgotten)
    config = configured(tmp_path, SHORT_LEASE, "serving.jobs.concurrency=2", "serving.jobs.max_attempts=20")
    with client_of(config, GenerationService(FakePipeline(), CharacterService(config))) as client:
        back[0] = time.monotonic() + 3
        job = submit(client, prompt="a sluggish robot")["id"]
        done = wait(client, job)
    assert done["status"] == "done" and done["attempts"] > 3, "more leases were lost than deaths are allowed"


def test_a_worker_that_stops_while_it_looks_for_a_job_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = JobQueue.claim

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return claim(*arguments)

    monkeypatch.setattr(JobQueue, "claim", slow)
    with client_of(configured(tmp_path, "serving.jobs.concurrency=1"), FailingGenerator()) as client:
        job = submit(client)["id"]
        time.sleep(0.1)
    monkeypatch.undo()
    with client_of(configured(tmp_path), FailingGenerator()) as client:
        assert wait(client, job)["attempts"] == 1


def test_a_stuck_engine_names_what_it_worked_on(tmp_path: Path) -> None:
    """A request that waits is not accused of it."""
    service = GenerationService(FakePipeline(), CharacterService(configured(tmp_path)))

    async def ask() -> list[Any]:
        prompts = ("an endless robot", "a robot")
        requests = [GenerationRequest(prompt, "", 64, 64, 4, 3.5, (1,), (), None) for prompt in prompts]
        tasks = []
        for request in requests:
            tasks.append(asyncio.create_task(service.generate(request)))
            await asyncio.sleep(0.5)
        service.abandon()
        return await asyncio.gather(*tasks, return_exceptions=True)

    stuck, waiting = asyncio.run(ask())
    assert isinstance(stuck, ReplicaDiedError) and stuck.alone
    assert isinstance(waiting, UnavailableError) and not isinstance(waiting, ReplicaDiedError)
