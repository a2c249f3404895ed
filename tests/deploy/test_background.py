"""Periodic background work: how often it is tried again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

import pytest

from deploy.background import repeat


async def _times_of(outcomes: list[bool | None], within_s: float) -> list[float]:
    """The moments of calls that return these values, or raise for None; the last one for good."""
    moments = list[float]()

    async def work() -> bool:
        moments.append(time.monotonic())
        outcome = outcomes[min(len(moments), len(outcomes)) - 1]
        if outcome is None:
            raise ConnectionError
        return outcome

    with suppress(TimeoutError):
        await asyncio.wait_for(repeat("test", work, partial(asyncio.sleep, 0.01)), within_s)
    return moments


def test_failures_one_after_another_are_tried_ever_less_often(caplog: pytest.LogCaptureFixture) -> None:
    moments = asyncio.run(_times_of([None], 3))
    assert 3 <= len(moments) <= 9, "rather than three hundred"
    assert moments[-1] - moments[-2] > moments[2] - moments[1]
    assert len(caplog.records) == len(moments)


def test_one_failure_delays_nothing() -> None:
    """Nor do failures with successes between them."""
    assert len(asyncio.run(_times_of([None, False] * 500, 1))) > 40
