"""The hostile benchmark counts what it says, and its proxy holds back what is sent."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile import __main__ as hostile
from benchmarks.hostile import fairness
from benchmarks.hostile.black_hole import BlackHoleProxy
from benchmarks.hostile.bodies import body_figures, costly_bodies
from benchmarks.hostile.fairness import compare, fairness_figures
from benchmarks.hostile.field import field_figures
from benchmarks.hostile.outages import job_figures
from benchmarks.hostile.pictures import SHAPES, picture_figures
from benchmarks.hostile.service import OWNERS
from benchmarks.hostile.sizes import outage_figures

FIELD = Path(__file__).parents[2].parent / "shared/field"


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(1000):
            connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_a_black_hole_holds_back_and_delivers_afterwards(echo: int) -> None:
    proxy = BlackHoleProxy("127.0.0.1", echo)
    old = socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)
    old.sendall(b"a")
    assert old.recv(10) == b"a"
    with proxy.dropping():
        new = socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)  # not refused
        for connection in (old, new):
            connection.sendall(b"b")
            with pytest.raises(TimeoutError):
                connection.recv(10)
    for connection in (old, new):
        connection.settimeout(5)
        assert connection.recv(10) == b"b"
        connection.close()
    proxy.close()


def test_fairness_compares_the_slowest_with_and_without_another_key() -> None:
    found = fairness_figures([0.1, 0.2], [0.3, 0.5, 0.4])
    assert found["second_key_p99_ratio"] == pytest.approx(2.5)
    assert found["second_key_median_s"] == {"alone": pytest.approx(0.15), "beside": 0.4}


@pytest.mark.parametrize(("fair", "low", "high"), [(True, 0.5, 2.5), (False, 3.0, 99.0)])
def test_a_queue_that_ignores_owners_is_seen(fair: bool, low: float, high: float) -> None:
    async def run() -> float:
        shared, own = asyncio.Semaphore(1), asyncio.Semaphore(1)

        async def first(seed: int) -> int:
            async with shared:
                await asyncio.sleep(0.02)
            return 200

        async def second(seed: int) -> int:
            async with own if fair else shared:
                await asyncio.sleep(0.02)
            return 200

        found = await compare(first, second, requests=5, parallel=10)
        assert found["first_key_answers"]["200"] > 0 and found["second_key_answers"] == {"200": 10}
        return float(found["second_key_p99_ratio"])

    assert low < asyncio.run(run()) < high


def test_a_refused_request_counts_until_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "_AGAIN_S", 0.05)
    answers, statuses = iter([503, 429, 200]), Counter[int]()

    async def send(seed: int) -> int:
        return next(answers)

    assert asyncio.run(fairness.timed(send, 0, statuses)) >= 0.1
    assert statuses == {503: 1, 429: 1, 200: 1}


def test_lost_doubled_and_undelivered_are_counted() -> None:
    accepted = {"a": "job-1", "b": "job-2", "c": "job-3"}
    states = {"job-1": "done", "job-2": "failed", "job-3": "lost"}
    listed = {"job-1": "done", "job-2": "failed", "job-4": "done", "job-5": "done"}
    found = job_figures(accepted, states, listed, {OWNERS[0]: 5, OWNERS[1]: 2}, drawn=3)
    assert (found["jobs_lost"], found["jobs_doubled"]) == (2, 1)
    assert (found["charged_not_delivered"], found["delivered_not_charged"]) == (2, 1)
    clean = job_figures({"a": "j"}, {"j": "done"}, {"j": "done"}, {OWNERS[0]: 1, OWNERS[1]: 0}, drawn=0)
    assert (clean["jobs_lost"], clean["jobs_doubled"], clean["charged_not_delivered"]) == (0, 0, 0)


def test_outages_are_failures_and_replaced_generators() -> None:
    large = {"a": {"status": 400}, "b": {"status": 200}, "c": {"status": 503}, "d": {"status": 0}}
    found = outage_figures(Counter({200: 9, 429: 1, 503: 2, 0: 1}), large, {1, 2}, {2, 3})
    assert found["outages"] == 3 + 2 + 1
    assert outage_figures(Counter({200: 9}), {}, {1}, {1})["outages"] == 0


def test_failures_of_pictures_bodies_and_inputs_are_named() -> None:
    shapes = {"1x1": {"statuses": [201, 500], "peak_mib": 3.0}, "2x2": {"statuses": [400], "peak_mib": 5.0}}
    found = picture_figures(shapes, 2**20)
    assert found["picture_failures"] == ["1x1: [201, 500]"] and found["picture_peak_mib"] == 5
    sent = {"a": {"statuses": [400, 413], "event_loop_s": 0.2}, "b": {"statuses": [400, 500], "event_loop_s": 0.9}}
    assert body_figures(sent)["body_failures"] == ["b"] and body_figures(sent)["event_loop_s"] == 0.9
    assert field_figures({"1": "", "2": "500"}) == {"field_inputs": 2, "field_failures": 1, "field": {"2": "500"}}


def test_shapes_and_bodies_are_within_the_limits() -> None:
    assert all(width * height <= 50_000_000 for width, height in SHAPES)
    assert all(len(body) < 10_000_000 for body in costly_bodies().values())
    assert json.loads(costly_bodies()["1,000 mentions"])["prompt"].count("@") > 500


@pytest.mark.slow
def test_the_benchmark_runs_and_its_json_has_the_named_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part for part in hostile.PARTS if part != "field" or FIELD.exists()]
    short = ["--requests", "4", "--parallel", "8", "--sizes", "5", "--soak", "10", "--hole", "5", "--rate", "1"]
    monkeypatch.setattr(sys, "argv", ["hostile", "--json", "--field", str(FIELD), "--only", *parts, *short])
    started = time.monotonic()
    hostile.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    named = set(hostile.AIMS) - (set() if FIELD.exists() else {"field_failures"})
    assert report["part_errors"] == {} and named <= report.keys()
    assert report["jobs_accepted"] > 0 and report["soak"]["jobs_accepted"] > 0
    assert time.monotonic() - started < 1200
