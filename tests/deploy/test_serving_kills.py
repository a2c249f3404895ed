"""Killed in the middle of load: replicas, a node, connections, the whole cluster. No accepted job is lost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy as sa

from components.config import PACKAGE_ROOT, load_config
from components.rehearsal.head_node import free_port
from tests.fakes.service_process import QUICK, SHORT_LEASE, running
from tests.fixtures.faults import QUICK_DETECTION, environment_without_ray, family, kill_all, wait_for

#: Many short jobs, taken over soon.
SETTINGS = [
    "serving.max_replicas=1",
    "serving.jobs.workers=2",
    "serving.jobs.tick_s=0.2",
    "serving.jobs.lease_s=2",
    "serving.jobs.max_attempts=10",
]
#: Seconds of load before and after something is killed, and that the service may take to come back and finish.
BEFORE_S, AFTER_S, PATIENCE_S = 4.0, 4.0, 180.0


@dataclass
class Load:
    """Submits jobs, each until it is accepted, and keeps their ids by key."""

    url: str
    name: str
    accepted: dict[str, str] = field(default_factory=dict)
    #: Attempts at a submission that were not answered with 202.
    refused: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self._stop.is_set():
                self._submit(client, number)
                number += 1
                time.sleep(0.1)

    def _submit(self, client: httpx.Client, number: int) -> None:
        key = f"{self.name}-{number}"
        asked = {"prompt": "a slow robot", "seed": number, "steps": 10}
        while not self._stop.is_set():
            try:
                answer = client.post("/v1/jobs", json=asked, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 202:
                self.accepted[key] = answer.json()["id"]
                return
            self.refused += 1
            time.sleep(0.2)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def load(url: str, name: str) -> Iterator[Load]:
    """Load for the length of the block."""
    clients = [Load(url, f"{name}-{index}") for index in range(2)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    whole = Load(url, name)
    try:
        yield whole
    finally:
        for client in clients:
            client.stop()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    for client in clients:
        whole.accepted |= client.accepted
        whole.refused += client.refused


def check(loaded: Load, killed: str) -> None:
    """Every accepted job ends once, with the picture that was asked for, and there are no others."""
    attempts = []
    with httpx.Client(base_url=loaded.url, timeout=20) as client:
        wait_for(lambda: answers(client), PATIENCE_S)
        for key, job in loaded.accepted.items():
            ended = outcome(client, job)
            assert ended["status"] == "done", (killed, key, ended)
            assert ended["result"]["seed"] == int(key.rpartition("-")[2]) and len(ended["result"]["data"]) == 1
            attempts.append(ended["attempts"])
        listed = [job["id"] for job in pages(client)]
    assert len(listed) == len(set(listed)), "no job is there twice"
    assert set(loaded.accepted.values()) <= set(listed)
    assert len(set(loaded.accepted.values())) == len(loaded.accepted), "one job a key"
    again = sum(attempt > 1 for attempt in attempts)
    print(
        f"\n{killed}: {len(attempts)} jobs accepted, {len(attempts)} done, 0 lost, 0 doubled; "
        f"{again} were begun again, {loaded.refused} submissions were repeated"
    )
    assert len(attempts) > 10, "there was load"


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/jobs").status_code == 200
    except httpx.HTTPError:
        return False


def outcome(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job once it has ended; parts of the service may be restarting meanwhile."""
    found: dict[str, Any] = {}

    def ended() -> bool:
        try:
            answer = client.get(f"/v1/jobs/{job}")
        except httpx.HTTPError:
            return False
        assert answer.status_code != 404, f"{job} is lost"
        if answer.status_code == 200:
            found.update(answer.json())
        return found.get("status") in ("done", "failed", "cancelled")

    wait_for(ended, PATIENCE_S)
    return found


def pages(client: httpx.Client) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/jobs", params={"limit": "100"} | after).raise_for_status().json()
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["data"][-1]["id"]}


class Service:
    """The service on a cluster in a process of its own, at the same place whenever it is started."""

    def __init__(self, store: Path) -> None:
        self._store, self._port = store, free_port()
        # Ray notes there which cluster was started last: nobody else is to join this one.
        self._folder = tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True)
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.fakes.service_cluster", str(self._store), str(self._port), *SETTINGS]
        environment = environment_without_ray() | QUICK_DETECTION | {"RAY_TMPDIR": self._folder.name}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=PACKAGE_ROOT, env=environment, **pipes)
        assert self._process.stdout is not None
        assert any(line.startswith(self.url) for line in self._process.stdout), "it did not start"

    def replicas(self, deployment: str) -> list[psutil.Process]:
        name = f"ray::ServeReplica:realcustom:{deployment}"
        return [process for process in family(self._process.pid) if command_line(process).startswith(name)]

    def kill(self, deployment: str) -> int:
        """Kill a replica of the deployment; says how many there were."""
        found = self.replicas(deployment)
        found[0].kill()
        return len(found)

    def kill_node(self) -> int:
        """Kill the node that draws, with everything on it; says how many processes that were."""
        raylet = self.replicas("Generator")[0].parent()
        assert raylet is not None and "raylet" in raylet.name()
        victims = [raylet, *raylet.children(recursive=True)]
        return kill_all(victims)

    def kill_everything(self) -> int:
        """Kill every process of the cluster, and this one's own; says how many that were."""
        killed = kill_all(family(self._process.pid))
        self._process.communicate()
        return killed

    def stop(self) -> None:
        if self._process.poll() is None:
            self.kill_everything()
        self._folder.cleanup()


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("kills") / "store")
    service.start()
    try:
        yield service
    finally:
        service.stop()


KILLS: dict[str, Callable[[Service], int]] = {
    "generator": lambda service: service.kill("Generator"),
    "jobs": lambda service: service.kill("Jobs"),
    "gateway": lambda service: service.kill("Gateway"),
    "node": lambda service: service.kill_node(),
}


@pytest.mark.slow
@pytest.mark.parametrize("victim", KILLS)
def test_a_killed_part_costs_no_job(service: Service, victim: str) -> None:
    with load(service.url, victim) as loaded:
        time.sleep(BEFORE_S)
        assert KILLS[victim](service) > 0
        time.sleep(AFTER_S)
    check(loaded, victim)


@pytest.mark.slow
def test_a_killed_cluster_costs_no_job(service: Service) -> None:
    with load(service.url, "cluster") as loaded:
        time.sleep(BEFORE_S)
        killed = service.kill_everything()
        service.start()
        time.sleep(AFTER_S)
    assert killed > 10
    check(loaded, f"cluster ({killed} processes)")


@pytest.mark.slow
def test_broken_database_connections_cost_no_job(tmp_path: Path, postgres_url: str) -> None:
    settings = [f"serving.store={tmp_path}/store", f"serving.database={postgres_url}", *SETTINGS, *QUICK, SHORT_LEASE]
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    others = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    broken = 0
    with running(load_config("tiny", settings)) as url:
        httpx.get(f"{url}/v1/jobs", timeout=30).raise_for_status()  # it has created its tables
        with load(url, "connections") as loaded, engine.connect() as connection:
            for _ in range(30):
                time.sleep(0.2)
                broken += connection.execute(others).scalar_one()
        assert broken > 30
        check(loaded, f"database ({broken} connections)")
    engine.dispose()
