"""Jobs over real HTTP and the real parts in one process; only the pipeline is a fake."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError

from components.config import Config, load_config
from components.errors import ConfigError
from components.jobs.queue import JobQueue
from components.jobs.webhook_settings import origin_allowed
from deploy.interfaces.errors import BusyError, UnavailableError
from deploy.interfaces.results import GeneratedImage, GenerationResult
from deploy.jobs.service import JobService
from tests.deploy.test_serving_api import SECRET, error
from tests.fakes.forked_services import ForkedServices
from tests.fakes.pipeline import READ_WORDS
from tests.fakes.service_process import QUICK, SHORT_LEASE, running
from tests.fakes.webhook_receiver import Receiver
from tests.fixtures.job_stores import database

__all__ = ["database"]

PROMPT = {"prompt": "a robot on the beach"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


def configured(tmp_path: Path, *overrides: str) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/store", *QUICK, *overrides])


@contextmanager
def client_of(config: Config, generator: Any = None) -> Iterator[httpx.Client]:
    with running(config, generator) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def client(config: Config) -> Iterator[httpx.Client]:
    with client_of(config) as client:
        yield client


def submit(client: httpx.Client, key: str | None = None, **fields: Any) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = client.post("/v1/jobs", json=PROMPT | fields, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return dict(answer.json())


def wait(client: httpx.Client, job: str, *states: str, within_s: float = 20) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = client.get(f"/v1/jobs/{job}").json()
        if found["status"] in (states or ("done", "failed", "cancelled")):
            return dict(found)
        time.sleep(0.02)
    raise AssertionError(f"the job is still {found}")


def events(client: httpx.Client, job: str, last: str | None = None) -> Iterator[tuple[str | None, str, Any]]:
    """The id, kind and data of each event."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if not line and "event" in fields:
                yield fields.get("id"), fields["event"], json.loads(fields["data"])
            fields = fields | {name: value} if line else {}


def results(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "store" / "jobs").iterdir())


def test_a_job_is_the_same_pictures_without_the_waiting(client: httpx.Client) -> None:
    fields = {"n": 2, "seed": 5, "size": "64x96", "prompt": "a slow robot"}
    job = submit(client, **fields)
    assert (job["object"], job["status"]) == ("job", "queued") and "result" not in job, "it waits for no picture"
    assert job["progress"]["pictures"] == 2
    done = wait(client, job["id"])
    assert done["status"] == "done" and done["attempts"] == 1 and not done["cancelling"], done
    steps = load_config("tiny").sampling.steps
    assert done["progress"] == {"step": 2 * steps, "total": 2 * steps, "pictures_done": 2, "pictures": 2}
    assert done["expires"] - done["ended"] == 86_400
    waited_for = client.post("/v1/images/generations", json=PROMPT | fields).json()
    assert done["result"]["data"] == waited_for["data"] and done["result"].keys() == waited_for.keys()
    assert done["result"]["seed"] == 5 and set(done["result"]["timings"]) == set(waited_for["timings"])


def test_jobs_are_listed_in_pages_without_results(client: httpx.Client) -> None:
    ids = [submit(client)["id"] for _ in range(3)]
    for job in ids:
        wait(client, job)
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["data"]] == ids[:0:-1] and first["has_more"]
    assert all("result" not in job for job in first["data"])
    second = client.get("/v1/jobs", params={"limit": 2, "after": ids[1]}).json()
    assert [job["id"] for job in second["data"]] == ids[:1] and not second["has_more"]
    wrong = client.get("/v1/jobs", params={"after": SECRET})
    assert wrong.status_code == 400 and error(wrong)["param"] == "after"


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"n": SECRET},
        {"size": "64x65"},
        {"steps": 1000},
        {"unknown": SECRET},
        {"response_format": "url"},
        {"characters": [{"id": SECRET}]},
        {"characters": [{"id": "a", "strength": 9}]},
        {"model": SECRET},
    ],
)
def test_a_job_is_as_strict_as_a_request_that_waits(client: httpx.Client, fields: dict[str, Any]) -> None:
    job = client.post("/v1/jobs", json=PROMPT | fields)
    waiting = client.post("/v1/images/generations", json=PROMPT | fields)
    assert job.status_code == waiting.status_code >= 400 and error(job) == error(waiting)
    assert client.get("/v1/jobs").json()["data"] == []


def test_what_only_jobs_have_is_checked_too(client: httpx.Client) -> None:
    def refused(param: str, headers: dict[str, str] | None = None, **fields: Any) -> None:
        answer = client.post("/v1/jobs", json=PROMPT | fields, headers=headers)
        assert answer.status_code == 400 and error(answer)["param"] == param, answer.text

    refused("partial_images", partial_images=11)
    refused("webhook.url", webhook={"url": f"ftp://{SECRET}"})
    refused("webhook.secret", webhook={"url": "https://a", "secret": SECRET})
    refused("Idempotency-Key", {"Idempotency-Key": "x" * 256})
    refused("Idempotency-Key", {"Idempotency-Key": "two words"})
    not_allowed = client.post("/v1/jobs", json=PROMPT | {"webhook": {"url": f"https://{SECRET}.example"}})
    assert not_allowed.status_code == 400 and error(not_allowed)["code"] == "webhook_not_allowed"
    for path in ("/v1/jobs/x", f"/v1/jobs/{SECRET}/events"):
        missing = client.get(path)
        assert missing.status_code == 404 and error(missing)["code"] == "job_not_found"
    wrong = client.get("/v1/jobs/x/events", headers={"Last-Event-ID": SECRET})
    assert wrong.status_code == 400 and error(wrong)["param"] == "Last-Event-ID"


def test_the_same_key_is_the_same_job(client: httpx.Client) -> None:
    first, again = submit(client, "key-1"), submit(client, "key-1")
    assert first["id"] == again["id"] and len(client.get("/v1/jobs").json()["data"]) == 1
    other = client.post("/v1/jobs", json=PROMPT | {"n": 2}, headers={"Idempotency-Key": "key-1"})
    assert other.status_code == 409
    assert (error(other)["param"], error(other)["code"]) == ("Idempotency-Key", "idempotency_key_reused")
    assert submit(client, "key-2")["id"] != first["id"]


def test_a_repeated_submission_is_answered_when_its_character_is_gone(client: httpx.Client) -> None:
    form = {"name": "Rob", "target_word": "robot", "pictures": [base64.b64encode(portrait()).decode()]}
    character = client.post("/v1/characters", json=form).json()["id"]
    fields = {"prompt": "a robot", "characters": [{"id": character}]}
    first = submit(client, "key-9", **fields)
    wait(client, first["id"], "done")
    assert client.delete(f"/v1/characters/{character}").status_code == 200
    again = client.post("/v1/jobs", json=PROMPT | fields, headers={"Idempotency-Key": "key-9"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true"), again.text
    assert again.json()["id"] == first["id"]
    new = client.post("/v1/jobs", json=PROMPT | fields, headers={"Idempotency-Key": "key-10"})
    assert new.status_code == 404


def test_a_full_queue_is_told(tmp_path: Path) -> None:
    config = configured(tmp_path, "serving.jobs.max_queued=1", "serving.jobs.concurrency=1")
    with client_of(config) as client:
        working = submit(client, prompt="a slow robot")
        wait(client, working["id"], "running")
        waiting = submit(client)
        full = client.post("/v1/jobs", json=PROMPT)
        assert full.status_code == 429 and int(full.headers["retry-after"]) > 0
        assert error(full)["code"] == "queue_full" and error(full)["type"] == "rate_limit_error"
        assert [wait(client, job["id"])["status"] for job in (working, waiting)] == ["done", "done"]


def test_events_tell_how_far_it_is_and_what_it_looks_like(client: httpx.Client) -> None:
    job = submit(client, prompt="a slow robot", n=2, partial_images=2)
    told = list(events(client, job["id"]))
    states = [(kind, data) for _, kind, data in told if kind != "preview"]
    assert [kind for kind, _ in states[:-1]] == ["progress"] * (len(states) - 1) and states[-1][0] == "done"
    steps = [data["progress"]["step"] for _, data in states]
    assert steps == sorted(steps) and 0 < steps[len(steps) // 2] < steps[-1] == data_total(states)
    ids = [int(number) for number, kind, _ in told if number is not None]
    assert ids == sorted(set(ids)), "every state has its own, later ones higher"
    looks = [data for _, kind, data in told if kind == "preview"]
    assert {look["picture"] for look in looks} == {0, 1}
    assert all(0 < look["step"] < states[-1][1]["progress"]["total"] / 2 for look in looks)
    assert Image.open(io.BytesIO(base64.b64decode(looks[0]["b64_json"]))).format == "PNG"


def data_total(states: list[tuple[str, Any]]) -> int:
    return int(states[-1][1]["progress"]["total"])


def test_who_loses_the_line_comes_back_to_what_is_new(client: httpx.Client) -> None:
    job = submit(client, prompt="a slow robot", partial_images=0)
    seen: list[tuple[str | None, str, Any]] = []
    for event in events(client, job["id"]):
        seen.append(event)
        if event[2]["progress"]["step"] > 0:
            break
    rest = list(events(client, job["id"], seen[-1][0]))
    assert int(rest[0][0] or 0) > int(seen[-1][0] or 0) and rest[-1][1] == "done"
    assert rest[0][2]["progress"]["step"] >= seen[-1][2]["progress"]["step"]
    (once_more,) = events(client, job["id"], seen[-1][0])
    assert once_more[1] == "done", "of what is over only the end is told"
    over = client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": rest[-1][0] or ""})
    assert over.status_code == 204


def test_a_running_job_is_cancelled_at_its_next_step(client: httpx.Client, tmp_path: Path) -> None:
    job = submit(client, prompt="a sluggish robot", steps=60)
    wait(client, job["id"], "running")
    answer = client.delete(f"/v1/jobs/{job['id']}").json()
    assert answer["status"] == "running" and answer["cancelling"]
    ended = wait(client, job["id"])
    assert ended["status"] == "cancelled" and ended["progress"]["step"] < 50 and "result" not in ended
    assert [kind for _, kind, _ in events(client, job["id"])] == ["cancelled"]
    assert client.delete(f"/v1/jobs/{job['id']}").json() == {
        "id": job["id"],
        "object": "job.deleted",
        "deleted": True,
    }
    for answer in (client.get(f"/v1/jobs/{job['id']}"), client.delete(f"/v1/jobs/{job['id']}")):
        assert answer.status_code == 404
    assert results(tmp_path) == []


def test_deleting_a_finished_job_removes_its_pictures(client: httpx.Client, tmp_path: Path) -> None:
    job = submit(client)
    wait(client, job["id"])
    assert len(results(tmp_path)) == 1
    assert client.delete(f"/v1/jobs/{job['id']}").json()["deleted"]
    assert results(tmp_path) == [] and client.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_a_job_that_cannot_be_drawn_says_why(client: httpx.Client) -> None:
    form = {"name": "Rob", "target_word": "robot", "pictures": [base64.b64encode(portrait()).decode()]}
    chosen = [{"id": client.post("/v1/characters", json=form).json()["id"]}]
    missing = client.post("/v1/jobs", json={"prompt": "a cat", "characters": chosen})
    assert missing.status_code == 400 and error(missing)["code"] == "target_word_not_in_prompt"
    late = submit(client, prompt="very " * READ_WORDS + "robot", characters=chosen)
    failed = wait(client, late["id"])
    assert failed["status"] == "failed" and failed["attempts"] == 1
    assert (failed["error"]["param"], failed["error"]["code"]) == ("characters", "target_word_not_in_prompt")
    good = submit(client, prompt="a robot", characters=chosen, return_masks=True)
    assert len(wait(client, good["id"])["result"]["data"][0]["masks_b64_json"]) == 1


def portrait() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return buffer.getvalue()


class FailingGenerator:
    """A generator that fails in the ways given, one a call, before it draws."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)

    async def stream(self, *_: Any) -> AsyncGenerator[GenerationResult, None]:
        if self.faults:
            raise self.faults.pop(0)
        yield GenerationResult([GeneratedImage(portrait(), (), 0.1)], {})


def test_what_passes_is_tried_again_and_what_does_not_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    passing = [UnavailableError("a part of the service was restarted; try again"), RuntimeError(SECRET)]
    with client_of(configured(tmp_path, "serving.jobs.concurrency=1"), FailingGenerator(*passing)) as client:
        assert wait(client, submit(client)["id"])["attempts"] == 2, "that no generator was there is no attempt"
    busy = [BusyError("too many requests are waiting; try again later")] * 4
    with client_of(configured(tmp_path), FailingGenerator(*busy)) as client:
        done = wait(client, submit(client)["id"])
        assert (done["status"], done["attempts"]) == ("done", 1), "what was not begun is no attempt"
    with client_of(configured(tmp_path), FailingGenerator(*[RuntimeError(SECRET)] * 9)) as client:
        answer = wait(client, submit(client, prompt=SECRET)["id"])
        assert answer["error"] == {
            "message": "given up after 3 attempts: internal error",
            "code": "attempts_exhausted",
        }
    assert "RuntimeError" in caplog.text and SECRET not in caplog.text, "neither prompts nor what may quote them"


def test_a_generator_that_hangs_is_left(tmp_path: Path) -> None:
    class Hanging(FailingGenerator):
        async def stream(self, *arguments: Any) -> AsyncGenerator[GenerationResult, None]:
            if self.faults:
                self.faults.pop()
                await asyncio.sleep(600)
            async for result in super().stream(*arguments):
                yield result

    with client_of(configured(tmp_path, "serving.jobs.timeout_s=0.2", SHORT_LEASE), Hanging(Exception())) as client:
        done = wait(client, submit(client)["id"])
    assert (done["status"], done["attempts"]) == ("done", 2)


def test_a_database_that_is_away_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = {"renew": 3, "finish": 3}

    def fault(name: str) -> Any:
        whole = getattr(JobQueue, name)

        def call(*arguments: Any) -> Any:
            if away[name]:
                away[name] -= 1
                raise OperationalError("UPDATE", {}, Exception("gone"))
            return whole(*arguments)

        return call

    for name in away:
        monkeypatch.setattr(JobQueue, name, fault(name))
    # For less than a lease: renewals come with the progress of each step.
    with client_of(configured(tmp_path)) as client:
        done = wait(client, submit(client, prompt="a slow robot")["id"])
    assert (done["status"], done["attempts"]) == ("done", 1) and away == {"renew": 0, "finish": 0}


def test_a_service_that_closes_gives_its_jobs_back(tmp_path: Path) -> None:
    with client_of(configured(tmp_path, "serving.jobs.lease_s=600")) as client:
        job = submit(client, prompt="a sluggish robot")["id"]
        wait(client, job, "running")
    with client_of(configured(tmp_path, "serving.jobs.lease_s=600")) as client:
        done = wait(client, job)
    assert (done["status"], done["attempts"]) == ("done", 1)


def test_jobs_outlive_the_death_of_everything(tmp_path: Path) -> None:
    settings = [str(tmp_path / "store"), "serving.jobs.concurrency=2", SHORT_LEASE]
    with ForkedServices() as services:
        url, service = services.start(*settings)
        with httpx.Client(base_url=url, timeout=60) as client:
            jobs = [submit(client, f"key-{i}", prompt="a sluggish robot", seed=i)["id"] for i in range(4)]
            wait(client, jobs[0], "running")
            service.kill()
        url, _ = services.start(*settings)
        with httpx.Client(base_url=url, timeout=60) as client:
            assert [submit(client, f"key-{i}", prompt="a sluggish robot", seed=i)["id"] for i in range(4)] == jobs
            ended = [wait(client, job, within_s=30) for job in jobs]
        assert [job["status"] for job in ended] == ["done"] * 4
        assert ended[0]["attempts"] == 2 and {job["result"]["seed"] for job in ended} == {0, 1, 2, 3}
        assert len(results(tmp_path)) == 4, "one result a job"


def test_jobs_in_either_database(tmp_path: Path, database: str) -> None:
    with client_of(configured(tmp_path, f"serving.database={database}")) as client:
        job = submit(client, "key", prompt="a slow robot ☃ \1", n=2)
        assert [kind for _, kind, _ in events(client, job["id"])][-1] == "done"
        assert len(wait(client, job["id"])["result"]["data"]) == 2
        assert submit(client, "key", prompt="a slow robot ☃ \1", n=2)["id"] == job["id"]
        assert client.delete(f"/v1/jobs/{job['id']}").json()["deleted"]
        assert client.get("/v1/jobs").json()["data"] == []


def test_webhooks_are_signed_sent_again_and_recorded(tmp_path: Path) -> None:
    receiver, key = Receiver(failures=1), bytes(range(32))
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(key).decode())
    config = configured(
        tmp_path,
        f'serving.jobs.webhook_origins=["{receiver.origin}"]',
        'serving.jobs.webhook_private_hosts=["127.0.0.1"]',
        f"serving.jobs.webhook_secret={tmp_path}/secret",
        "serving.jobs.webhook_backoff_s=0.1",
        "serving.jobs.webhook_attempts=2",
    )
    with client_of(config) as client:
        job = submit(client, prompt=SECRET, webhook={"url": f"{receiver.origin}/hook?x=1"})
        assert job["webhook"] == {"url": f"{receiver.origin}/hook?x=1", "state": "waiting", "attempts": 0}
        deadline = time.monotonic() + 10
        while (shown := client.get(f"/v1/jobs/{job['id']}").json())["webhook"]["state"] != "delivered":
            assert time.monotonic() < deadline, shown
            time.sleep(0.02)
    assert shown["webhook"]["attempts"] == 2
    (_, first, _), (_, headers, body) = receiver.received
    signed = f"{job['id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == first["webhook-id"] == job["id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    event = json.loads(body)
    assert (event["type"], event["data"]["id"], event["data"]["status"]) == ("job.done", job["id"], "done")
    assert "result" not in event["data"] and SECRET.encode() not in body
    receiver.server.shutdown()


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://hooks.example", True),
        ("HTTPS://Hooks.Example/a?b", True),
        ("http://hooks.example", False),
        ("https://hooks.example:8443/", False),
        ("https://hooks.example.evil/", False),
        ("https://hooks.example@evil/", False),
        ("https://user@hooks.example/", False),
        ("https://evil\\@hooks.example/", False),
        ("https://hooks.example\\.evil/", False),
        ("https://[", False),
    ],
)
def test_webhooks_go_where_they_may_and_nowhere_else(url: str, fits: bool) -> None:
    assert origin_allowed(url, ("https://hooks.example", "http://127.0.0.1:9")) is fits
    assert not origin_allowed(url, ())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serving.jobs.lease_s=1", "lease_s must be at least four times tick_s"),
        ('serving.jobs.webhook_origins=["https://a"]', "webhook_origins needs webhook_secret"),
        ('serving.jobs.webhook_origins=["https://a/path"]', "webhook_origins"),
    ],
)
def test_settings_that_do_not_fit_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("tiny", [override])


def test_webhooks_without_a_usable_key_stop_the_service(tmp_path: Path) -> None:
    config = configured(
        tmp_path, 'serving.jobs.webhook_origins=["https://a"]', f"serving.jobs.webhook_secret={tmp_path}/none"
    )
    with pytest.raises(ConfigError, match="webhook_secret: cannot be read"):
        JobService(config, FailingGenerator())  # type: ignore[arg-type]
