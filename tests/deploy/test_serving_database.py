"""The service while its database does not answer: what needs it is refused in time, and nothing else waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.characters.character_rows import CharacterRows
from components.database import UNAVAILABLE, open_database
from components.jobs.job import LeaseStatus
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles
from deploy.background import _DATABASE_THREADS, _database_threads
from deploy.interfaces.errors import describe_error
from tests.deploy.test_serving_jobs import client_of, configured, submit, wait
from tests.fakes.service_process import SHORT_LEASE
from tests.fixtures.tcp_proxy import TcpProxy

LIMITS = ["serving.database_limits.connect_s=2", "serving.database_limits.statement_s=3"]
IMAGE = {"prompt": "a robot on the beach"}
#: The longest that a request is refused after: the pool's wait, or a ping and another connection; and a busy machine.
REFUSED_WITHIN_S = 4 + 3


@contextmanager
def repeated(call: Any, seen: list[Any]) -> Iterator[None]:
    """Call again and again in a thread during the block."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            seen.append(call())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def test_a_black_holed_database_stalls_nobody_else(tmp_path: Path, postgres_url: str) -> None:
    """Keys are known, and images without characters need no row."""
    url = sa.make_url(postgres_url)
    _, key = KeyStore(open_database(tmp_path, postgres_url)).create("ada", "test", [Scope.ADMIN], KeyLimits())
    with TcpProxy(str(url.host), url.port or 5432) as proxy:
        behind = url.set(port=proxy.port).render_as_string(hide_password=False)
        settings = [*LIMITS, "serving.access.keys=required", "serving.access.refresh_s=0.5"]
        config = configured(tmp_path, f"serving.database={behind}", *settings)
        with client_of(config) as client:
            client.headers["Authorization"] = f"Bearer {key}"

            def timed(method: str, path: str, body: Any = None) -> tuple[float, httpx.Response]:
                start = time.monotonic()
                answer = client.request(method, path, json=body)
                return time.monotonic() - start, answer

            assert timed("POST", "/v1/images/generations", IMAGE)[1].status_code == 200
            assert timed("GET", "/v1/characters")[1].status_code == 200
            rows: list[tuple[float, httpx.Response]] = []
            alive: list[tuple[float, httpx.Response]] = []
            images: list[tuple[float, httpx.Response]] = []
            with proxy.black_hole():
                time.sleep(3)  # the first requests wait for the keys, and then none does
                with (
                    repeated(lambda: timed("GET", "/v1/characters"), rows),
                    repeated(lambda: timed("GET", "/v1/jobs"), rows),
                    repeated(lambda: timed("GET", "/healthz"), alive),
                    repeated(lambda: timed("POST", "/v1/images/generations", IMAGE), images),
                ):
                    time.sleep(10)
            assert max(seconds for seconds, _ in rows) < REFUSED_WITHIN_S and len(rows) >= 4
            assert {answer.status_code for _, answer in rows} == {503}
            assert all(int(answer.headers["retry-after"]) > 0 for _, answer in rows)
            assert {answer.json()["error"]["code"] for _, answer in rows} == {"unavailable"}
            assert {answer.status_code for _, answer in [*alive, *images]} == {200}
            assert max(seconds for seconds, _ in alive) < 1, "the event loop is not blocked"
            assert max(seconds for seconds, _ in images[1:]) < 3 and len(images) > 10
            back = time.monotonic()
            while any(timed("GET", path)[1].status_code != 200 for path in ("/v1/characters", "/v1/jobs")):
                assert time.monotonic() - back < 10
                time.sleep(0.2)
            assert wait(client, submit(client)["id"])["status"] == "done"


@pytest.mark.parametrize("kind", UNAVAILABLE)
def test_a_database_that_does_not_answer_is_a_retry_later(
    tmp_path: Path, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = kind("SELECT", {}, Exception("gone")) if issubclass(kind, sa.exc.DBAPIError) else kind("the pool is empty")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(CharacterRows, "page", fail)
    with client_of(configured(tmp_path)) as client:
        answer = client.get("/v1/characters")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"] == {
        "message": "the database does not answer; try again",
        "type": "server_error",
        "param": None,
        "code": "unavailable",
    }
    assert describe_error(error).status == 503


def test_leases_are_renewed_while_all_other_calls_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For six leases; another worker looks for jobs that were lost."""
    renew, renewed = JobQueue.renew, list[float]()

    def noted(*given: Any) -> LeaseStatus:
        renewed.append(time.monotonic())
        return renew(*given)

    monkeypatch.setattr(JobQueue, "renew", noted)
    with client_of(configured(tmp_path, SHORT_LEASE, "serving.jobs.concurrency=2")) as client:
        job = submit(client, prompt="a sluggish robot")["id"]
        wait(client, job, "running")
        blocked = [_database_threads().submit(time.sleep, 3) for _ in range(_DATABASE_THREADS)]
        start = time.monotonic()
        queue = _queue_of(tmp_path)
        while not all(map(Future.done, blocked)):
            assert queue.claim() is None, "the lease has expired"
            time.sleep(0.05)
        assert sum(moment > start for moment in renewed) > 10
        done = wait(client, job)
    assert (done["status"], done["attempts"]) == ("done", 1)


def _queue_of(tmp_path: Path) -> JobQueue:
    store = tmp_path / "store"
    return JobQueue(open_database(store, None), ResultFiles(store / "jobs"), lease_s=0.5, max_attempts=9)
