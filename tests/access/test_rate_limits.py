"""Requests a minute: in one process and in the database, which processes share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from components.access.rate_limits import RateDecision, RateLimiter, RateRequest, SharedRateLimiter
from components.access.store import request_rates
from components.database import open_database
from tests.fixtures.job_stores import database

__all__ = ["database"]

NOON = 1_700_000_000.0
Acquire = Callable[[RateRequest], RateDecision]


class StillClock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def own(clock: StillClock) -> Acquire:
    return RateLimiter(clock).acquire


def shared(clock: StillClock, engine: sa.Engine) -> Acquire:
    limiter = SharedRateLimiter(engine, clock)
    return lambda request: limiter.acquire_all([request])[0]


@pytest.fixture
def engine(tmp_path: Path, database: str) -> sa.Engine:
    return open_database(tmp_path, database)


@pytest.fixture(params=["own", "sqlite", "postgresql"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Acquire, StillClock]:
    clock = StillClock()
    if request.param == "own":
        return own(clock), clock
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return shared(clock, open_database(tmp_path, url)), clock


@settings(deadline=None)
@given(
    per_minute=st.integers(1, 600),
    pauses=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
)
def test_a_key_never_gets_more_than_its_rate_allows(per_minute: int, pauses: list[float]) -> None:
    clock, given_out = StillClock(), 0
    acquire = partial(own(clock), RateRequest("a", per_minute))
    for pause in pauses:
        clock.now += pause
        if acquire().wait_s:
            assert acquire().wait_s > 0, "refused again as long as it has not waited"
        else:
            given_out += 1
        assert given_out <= per_minute + (clock.now - NOON) * per_minute / 60 + 0.02


@settings(deadline=None)
@given(per_minute=st.integers(1, 600), late=st.floats(1e-3, 1e3))
def test_what_is_said_of_the_wait_is_true(per_minute: int, late: float) -> None:
    clock = StillClock()
    acquire = partial(own(clock), RateRequest("a", per_minute))
    assert [acquire().wait_s for _ in range(per_minute)] == [0] * per_minute
    wait_s = acquire().wait_s
    assert wait_s == pytest.approx(60 / per_minute, abs=1e-4)
    clock.now += wait_s * 0.9
    assert acquire().wait_s > 0
    clock.now += wait_s * 0.1 + late
    assert acquire().wait_s == 0


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([1, 7, 60]), st.floats(0, 90, allow_nan=False)), max_size=40
    )
)
def test_the_database_decides_as_memory_does(steps: list[tuple[str, int, float]]) -> None:
    engine, clock = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool), StillClock()
    request_rates.create(engine)
    both = own(clock), shared(clock, engine)
    for key, per_minute, pause in steps:
        clock.now += pause
        first, second = (acquire(RateRequest(key, per_minute)) for acquire in both)
        assert (first.wait_s == 0, first.remaining) == (second.wait_s == 0, second.remaining)
        assert first.wait_s == pytest.approx(second.wait_s, abs=1e-4)
        assert first.reset_s == pytest.approx(second.reset_s, abs=1e-4)


def test_rates_are_counted_key_by_key(limited: tuple[Acquire, StillClock]) -> None:
    acquire, clock = limited
    a, b = RateRequest("a", 2), RateRequest("b", 2)
    told = [acquire(a) for _ in range(3)]
    assert [bool(each.wait_s) for each in told] == [False, False, True]
    assert [each.remaining for each in told] == [1, 0, 0] and told[0].reset_s == pytest.approx(30)
    assert acquire(b).wait_s == 0
    clock.now += 30
    assert acquire(a).wait_s == 0 and acquire(a).wait_s == pytest.approx(30)


def test_a_changed_limit_counts_at_once(limited: tuple[Acquire, StillClock]) -> None:
    acquire, _ = limited
    assert acquire(RateRequest("a", 1)).wait_s == 0 and acquire(RateRequest("a", 1)).wait_s > 0
    changed = acquire(RateRequest("a", 10))
    assert (changed.wait_s, changed.remaining) == (0, 9) and changed.reset_s == pytest.approx(6)


def test_a_clock_that_was_set_back_locks_nobody_out(engine: sa.Engine) -> None:
    clock = StillClock()
    acquire = partial(shared(clock, engine), RateRequest("a", 2))
    assert [acquire().wait_s > 0 for _ in range(3)] == [False, False, True]
    clock.now -= 3600
    assert [acquire().wait_s > 0 for _ in range(3)] == [False, False, True]


def test_processes_do_not_allow_too_many_together(engine: sa.Engine) -> None:
    clock, barrier = StillClock(), threading.Barrier(8)

    def process(number: int) -> int:
        """Allowed requests of a process, which counts those of two keys in batches."""
        limiter = SharedRateLimiter(engine, clock)
        keys = ["a", "b"] if number % 2 else ["b", "a"]
        barrier.wait()
        allowed = 0
        for _ in range(5):
            decisions = limiter.acquire_all([RateRequest(key, 10) for key in keys])
            allowed += sum(each.wait_s == 0 for each in decisions)
        return allowed

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(process, range(8))) == 20, "ten of each key"


def test_a_batch_is_decided_in_its_order(engine: sa.Engine) -> None:
    requests = [RateRequest(key, 2) for key in "babaaa"]
    decisions = SharedRateLimiter(engine, StillClock()).acquire_all(requests)
    assert [each.wait_s == 0 for each in decisions] == [True, True, True, True, False, False]
    assert [each.remaining for each in decisions] == [1, 1, 0, 0, 0, 0]


def test_what_is_refused_in_a_batch_costs_nothing_more(engine: sa.Engine) -> None:
    limiter, statements = SharedRateLimiter(engine, StillClock()), list[str]()
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    decisions = limiter.acquire_all([RateRequest("a", 5)] * 1000)
    assert sum(each.wait_s == 0 for each in decisions) == 5 and decisions[-1].remaining == 0
    assert len(statements) < 20
