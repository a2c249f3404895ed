"""Durations of steps are scaled from measured sizes to others."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from components.engine import step_times
from components.engine.request import Request
from components.engine.step_times import StepTimes, measure_step_times

TIMES = StepTimes({64 * 64: 0.1, 128 * 128: 0.4})


def test_seconds_grow_with_the_pixels() -> None:
    assert TIMES.seconds(64 * 64) == 0.1
    assert TIMES.seconds(32 * 32) == pytest.approx(0.025), "at least its part of the smallest measured one"
    assert TIMES.seconds(128 * 64) == pytest.approx(0.2)
    assert TIMES.seconds(128 * 128) == 0.4
    assert TIMES.seconds(256 * 256) == pytest.approx(6.4), "four times the pixels, sixteen times the seconds"
    assert StepTimes({}).seconds(10**9) == 0


def measured(monkeypatch: pytest.MonkeyPatch, seconds: Any, **arguments: Any) -> list[int]:
    def step_seconds(_: Any, probe: Request, count: int, *, decode: bool) -> float:
        return float(seconds(probe.width))

    monkeypatch.setattr(step_times, "step_seconds", step_seconds)
    probe = Request(prompt="a", seed=0, width=64, height=64, steps=9, guidance_scale=1.0)
    return list(measure_step_times(SimpleNamespace(), probe, **arguments).measured)  # type: ignore[arg-type]


def test_sizes_are_measured_until_one_would_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, lambda side: 0.001, max_side=256) == [64**2, 128**2, 256**2]
    assert measured(monkeypatch, lambda side: 0.1 * side / 64, max_side=2048) == [64**2, 128**2]
    assert measured(monkeypatch, lambda side: 9, max_side=2048) == [64**2]
    assert measured(monkeypatch, lambda side: 0.001, max_side=2048, deadline=time.monotonic()) == [64**2]
