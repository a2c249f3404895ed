"""Store and database killed or full under load: no job is lost or doubled, and nothing is charged but delivered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from components.access.key import KeyLimits, Scope
from components.access.limits import UsageLedger
from components.access.store import KeyStore
from components.config import Config, load_config
from components.database import open_service_database
from tests.fakes.service_process import QUICK, running
from tests.fixtures.postgres import KillableServer, killable_postgres
from tests.fixtures.small_disk import small_disk

__all__ = ["killable_postgres"]

IMAGE = {"prompt": "a slow robot", "size": "64x64", "steps": 4}
COST = 64 * 64 * 4
#: Seconds of load before a fault, and of the fault; and for the last job to end.
BEFORE_S, FAULT_S, PATIENCE_S = 1.0, 2.0, 60.0
SETTINGS = [
    "serving.access.keys=required",
    "serving.access.refresh_s=0.5",
    "serving.database_limits.connect_s=2",
    *QUICK,
]


class Load:
    """Submits a job every 100 ms, with one idempotency key until it is accepted, and reads those that are done."""

    def __init__(self, client: httpx.Client) -> None:
        self._client, self._stop = client, threading.Event()
        self.accepted: dict[str, str] = {}
        self.statuses: set[int] = set()

    def run(self) -> None:
        number = 0
        while not self._stop.wait(0.1):
            number += 1
            key = f"key-{number}"
            while (answer := self._post(key)).status_code != 202:
                self.statuses.add(answer.status_code)
                time.sleep(0.1)
            self.accepted[key] = answer.json()["id"]

    def _post(self, key: str) -> httpx.Response:
        return self._client.post("/v1/jobs", json=IMAGE, headers={"Idempotency-Key": key})

    @contextmanager
    def during(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)
            assert not thread.is_alive(), "a submission is never accepted"


@contextmanager
def loaded(config: Config) -> Iterator[None]:
    """The service under load; after the block every job is checked."""
    with running(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        engine = open_service_database(config.serving)
        _, key = KeyStore(engine).create("ada", "test", [Scope.ADMIN], KeyLimits(pixel_steps_per_day=10**9))
        client.headers["Authorization"] = f"Bearer {key}"
        wait_until(lambda: client.get("/v1/jobs").status_code == 200)
        load = Load(client)
        with load.during():
            time.sleep(BEFORE_S)
            yield
            wait_until(lambda: len(load.accepted) > 10)
        check(client, load)
        wait_until(lambda: sum(UsageLedger(engine).spent().values()) == COST * len(load.accepted))
        engine.dispose()


def check(client: httpx.Client, load: Load) -> None:
    assert load.statuses <= {503}, "what cannot be accepted is a retry later"
    assert len(set(load.accepted.values())) == len(load.accepted)
    for key, job in load.accepted.items():
        found: dict[str, Any] = {}

        def ended(job: str = job, found: dict[str, Any] = found) -> bool:
            answer = client.get(f"/v1/jobs/{job}")
            assert answer.status_code != 404, "it is lost"
            found.update(answer.json())
            return answer.status_code == 200 and found["status"] in ("done", "failed", "cancelled")

        wait_until(ended)
        assert found["status"] == "done" and len(found["result"]["data"]) == 1, (key, found)
    listed = [job["id"] for job in client.get("/v1/jobs", params={"limit": 100}).json()["data"]]
    assert sorted(listed) == sorted(load.accepted.values()), "no job is there twice, and no other one"


def suffer(caplog: pytest.LogCaptureFixture) -> None:
    """Wait for the length of a fault that some job meets."""
    time.sleep(FAULT_S)
    wait_until(lambda: "its outcome cannot be stored" in caplog.text)


def wait_until(condition: Any, limit_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_disk_that_is_full_for_a_while_costs_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Results and SQLite are on it."""
    config = load_config("tiny", [f"serving.store={tmp_path}/store", *SETTINGS])
    with small_disk(tmp_path / "store", 16) as disk, loaded(config), disk.full():
        suffer(caplog)


@pytest.mark.slow
def test_an_object_store_that_is_killed_costs_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="outage")
    place = ["serving.store=s3://outage", f"serving.database=sqlite:///{tmp_path}/studio.db"]
    with loaded(load_config("tiny", [*place, *SETTINGS])):
        server.stop()
        suffer(caplog)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)  # objects are in this process
        server.start()
    server.stop()


@pytest.mark.slow
def test_a_database_that_is_killed_costs_no_job(
    tmp_path: Path, killable_postgres: KillableServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = killable_postgres.url.render_as_string(hide_password=False)
    with loaded(load_config("tiny", [f"serving.store={tmp_path}/store", f"serving.database={url}", *SETTINGS])):
        killable_postgres.kill()
        suffer(caplog)
        killable_postgres.start()
