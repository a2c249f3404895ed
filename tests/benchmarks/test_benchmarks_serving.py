"""The serving benchmark counts what it says, and its plain server draws what the pipeline draws."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from benchmarks import serving
from benchmarks.service import load
from benchmarks.service.figures import Round, figures, growth, percentile, soak_figures
from benchmarks.service.plain import create_app
from benchmarks.service.server_process import Answer, Scene
from components.config import Config
from components.cut_outs import cut_out
from components.data.region import subject_mask
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject

ROUND = Round(
    ours=4.0,
    plain=2.0,
    our_shorts=[0.1, 0.2],
    plain_shorts=[1.0, 2.0],
    our_alone=[0.56, 0.54, 0.55],
    bare=[0.5, 0.5, 0.5],
    stored=[0.5],
    uploaded=[0.8],
    encoding=[0.2],
)


def test_figures_are_ratios_of_medians_over_all_rounds() -> None:
    report = figures([ROUND, replace(ROUND, ours=6.0), replace(ROUND, ours=5.0, plain=2.5, our_shorts=[0.4])])
    assert report["throughput_over_plain"] == pytest.approx(2.5)
    assert report["spread"]["throughput_over_plain"] == {"low": 2.0, "high": 3.0}
    assert report["short_p99_over_plain"] == pytest.approx(0.2), "the worst of all rounds over the worst"
    assert report["overhead_ms"] == pytest.approx(50)
    assert report["overhead_share"] == pytest.approx(0.1)
    assert report["overhead_over_limit"] == pytest.approx(50 / 65)
    assert report["stored_character_saves_s"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([5.0], 0.99, 5.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        (range(1, 101), 0.99, 99),
        (range(1, 102), 0.99, 100),
        ([1, 2], 0, 1),
    ],
)
def test_a_percentile_is_one_of_the_values(values: Any, share: float, wanted: float) -> None:
    assert percentile(list(values), share) == wanted


def test_growth_leaves_the_warm_up_out() -> None:
    warm_up = [10.0, 50.0]
    assert growth([*warm_up, *[100.0] * 8]) == 0
    assert growth([*warm_up, *[100.0] * 6, 110.0, 110.0]) == pytest.approx(0.1)
    assert growth([*warm_up, *[100.0] * 6, 90.0, 90.0]) == pytest.approx(-0.1)
    assert growth([1.0]) == 0


def test_a_soak_counts_every_answer_and_every_job() -> None:
    found = soak_figures([200, 503, 202, 202, 0, 500, 429], ["done", "running"], [1.0] * 10, 3.0, 6.0)
    assert found["other_answers"] == 2
    assert found["answers"] == {"0": 1, "200": 1, "202": 2, "429": 1, "500": 1, "503": 1}
    assert (found["jobs_accepted"], found["jobs_done"]) == (2, 1)


class Queue:
    """A server that takes a hundredth of a second a step, one request after the other."""

    def __init__(self) -> None:
        self.turn, self.most, self.open, self.seen = asyncio.Lock(), 0, 0, []

    async def generate(self, seed: int, steps: int) -> Answer:
        started = time.perf_counter()
        self.open += 1
        self.most = max(self.most, self.open)
        async with self.turn:
            await asyncio.sleep(0.01 * steps)
        self.open -= 1
        self.seen.append(seed)
        return Answer(200, time.perf_counter() - started)


def test_a_flood_keeps_so_many_clients_busy() -> None:
    async def run() -> tuple[load.LoadResult, Queue]:
        queue = Queue()
        return await load.keep_busy(queue, clients=3, requests=10, steps=1), queue

    loaded, queue = asyncio.run(run())
    assert sorted(queue.seen) == list(range(10)) and queue.most == 3
    assert loaded.seconds > 0.1 and loaded.rate == pytest.approx(10 / loaded.seconds)


def test_short_requests_wait_for_the_long_ones_of_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_AHEAD_S", 0.02)

    async def run() -> tuple[list[Answer], Queue]:
        queue = Queue()
        return await load.short_among_long(queue, longs=2, shorts=3, steps=(1, 10)), queue

    answers, queue = asyncio.run(run())
    assert len(answers) == 3 and queue.most == 3
    assert min(answer.seconds for answer in answers[1:]) > 0.15, "two long ones were before it"
    assert queue.open == 0, "nothing is left behind"


def test_arrivals_wait_for_nobody() -> None:
    async def slow(number: int) -> Answer:
        await asyncio.sleep(0.2)
        return Answer(200 + number, 0.2)

    async def run() -> tuple[list[Answer], float]:
        started = time.perf_counter()
        return await load.arrivals(lambda number: slow, rate=100, seconds=0.1), time.perf_counter() - started

    answers, seconds = asyncio.run(run())
    assert [answer.status for answer in answers] == [200 + number for number in range(10)]
    assert seconds < 1, "ten of 0.2 s each, at the same time"


def test_the_peer_draws_what_the_pipeline_draws(config: Config) -> None:
    pipeline = RealCustomPipeline.from_config(config)
    scene = Scene("a robot in the snow", "robot", Image.new("RGB", (128, 128), "red"))
    client = TestClient(create_app(config, pipeline))
    subject = client.post("/subjects", json={"picture": base64.b64encode(scene.png).decode()}).json()
    asked = {"prompt": scene.prompt, "word": scene.word, "seed": 5, "steps": 3, "subject": subject}
    answer = client.post("/pictures", json=asked).json()
    cutout = cut_out(scene.reference, subject_mask(scene.reference), pipeline.reference_size)
    wanted = pipeline(
        scene.prompt,
        subjects=Subject(pipeline.encode_subject([cutout]), scene.word),
        **config.sampling.arguments | {"num_inference_steps": 3},
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    drawn = Image.open(io.BytesIO(base64.b64decode(answer["b64_json"])))
    assert np.array_equal(np.asarray(drawn), np.asarray(wanted))
    assert 0 < answer["bare_s"] < 60


@pytest.mark.slow
def test_the_benchmark_runs_and_its_json_has_the_named_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--rounds", "1", "--requests", "8", "--single", "2", "--shorts", "2", "--steps", "4", "--soak", "10"]
    monkeypatch.setattr(sys, "argv", ["serving", "--json", *few])
    serving.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {*serving.AIMS, "spread", "soak", "machine"} <= report.keys()
    soak = report["soak"]
    assert soak["other_answers"] == 0 and soak["jobs_done"] == soak["jobs_accepted"] > 0, soak
    assert soak["memory_mib"]["last"] > 100
