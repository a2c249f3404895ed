"""Requests a minute of keys over several gateways, and while the database does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from starlette.responses import PlainTextResponse

from components.access.key import KeyLimits, Scope
from components.access.rate_limits import RateDecision, RateLimiter, RateRequest, SharedRateLimiter
from components.access.store import KeyStore
from components.config import load_config
from components.database import open_database, open_service_database
from deploy.api.authentication import AuthenticationMiddleware
from deploy.api.request_rates import OwnRates, SharedRates
from tests.fixtures.job_stores import database

__all__ = ["database"]

TEN = RateRequest("a", 10)


@asynccontextmanager
async def gateways(
    folder: Path, database: str, *settings: str, per_minute: int
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two gateways with a key that has ``per_minute``."""
    fixed = ["serving.access.keys=required", f"serving.store={folder}/store", f"serving.database={database}"]
    config = load_config("tiny", [*fixed, *settings])
    _, key = KeyStore(open_service_database(config.serving)).create(
        "ada", "test", [Scope.ADMIN], KeyLimits(requests_per_minute=per_minute)
    )
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            transport = httpx.ASGITransport(AuthenticationMiddleware(PlainTextResponse("done"), config))
            client = httpx.AsyncClient(
                transport=transport, base_url="http://gateway", headers={"Authorization": f"Bearer {key}"}
            )
            clients.append(await stack.enter_async_context(client))
        yield clients


@pytest.mark.parametrize("settings", [(), ("serving.gateways.max=1", "serving.access.rate_limits=database")])
def test_gateways_allow_a_key_its_requests_together(tmp_path: Path, database: str, settings: tuple[str, ...]) -> None:
    async def send() -> tuple[Counter[int], list[httpx.Response]]:
        async with gateways(tmp_path, database, *settings, per_minute=10) as clients:
            sent = [client.get("/v1/models") for _ in range(30) for client in clients]
            answers = await asyncio.gather(*sent)
            answers.append(await clients[1].get("/v1/models"))
            return Counter(answer.status_code for answer in answers), answers

    started = time.monotonic()
    statuses, answers = asyncio.run(send())
    allowed = [answer for answer in answers if answer.status_code == 200]
    assert 10 <= statuses[200] <= 10 + (time.monotonic() - started) / 6 and statuses[429] == 61 - statuses[200]
    left = sorted(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in allowed)
    assert left[-10:] == list(range(10)), "they count down together"
    assert all(0 < int(a.headers["retry-after"]) <= 6 for a in answers if a.status_code == 429)


@pytest.mark.parametrize("setting", ["serving.gateways.max=1", "serving.access.rate_limits=gateway"])
def test_a_gateway_counts_by_itself_if_it_is_alone_or_told_to(tmp_path: Path, database: str, setting: str) -> None:
    async def send() -> list[int]:
        async with gateways(tmp_path, database, setting, per_minute=2) as clients:
            return [(await client.get("/v1/models")).status_code for client in clients for _ in range(3)]

    assert asyncio.run(send()) == [200, 200, 429] * 2


class Database(SharedRateLimiter):
    """Counts its calls; it fails or waits as it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(open_database(folder, None))
        self.calls: list[int] = []
        self.threads: set[str] = set()
        self.fails = False
        self.answers = threading.Event()
        self.answers.set()

    def acquire_all(self, requests: Sequence[RateRequest]) -> list[RateDecision]:
        self.calls.append(len(requests))
        self.threads.add(threading.current_thread().name)
        assert self.answers.wait(20)
        if self.fails:
            raise OperationalError("", {}, Exception())
        return super().acquire_all(requests)


@pytest.fixture
def store(tmp_path: Path) -> Database:
    return Database(tmp_path)


def rates(store: Database, wait_s: float = 5.0) -> SharedRates:
    return SharedRates(store, OwnRates(RateLimiter()), wait_s)


def test_requests_share_calls_of_the_database_outside_the_event_loop(store: Database) -> None:
    async def send() -> list[RateDecision]:
        tested = rates(store)
        store.answers.clear()
        sent = [asyncio.create_task(tested.acquire(RateRequest(f"key-{i}", 10))) for i in range(200)]
        await asyncio.sleep(0.1)
        assert not any(each.done() for each in sent), "the event loop goes on meanwhile"
        store.answers.set()
        return await asyncio.gather(*sent)

    assert all(each.wait_s == 0 for each in asyncio.run(send()))
    assert len(store.calls) <= 2 and sum(store.calls) == 200
    assert all(name.startswith("database") for name in store.threads)


def test_who_is_refused_costs_no_calls_until_it_may_come_again(store: Database) -> None:
    async def send() -> list[RateDecision]:
        tested, often = rates(store), RateRequest("a", 600)
        refused: list[RateDecision] = []
        while not refused:
            decisions = await asyncio.gather(*(tested.acquire(often) for _ in range(200)))
            refused = [each for each in decisions if each.wait_s]
        calls = len(store.calls)
        first = await tested.acquire(often)
        again = [await tested.acquire(often) for _ in range(20)] if first.wait_s else []
        assert all(each.wait_s <= refused[-1].wait_s for each in again) and len(store.calls) <= calls + 1
        await asyncio.sleep(0.15)
        return [await tested.acquire(often)]

    assert asyncio.run(send())[0].wait_s == 0


def test_a_database_that_fails_leaves_each_gateway_its_own_count(store: Database) -> None:
    async def send() -> None:
        tested = rates(store)
        store.fails = True
        decisions = [await tested.acquire(TEN) for _ in range(12)]
        assert [each.wait_s == 0 for each in decisions] == [True] * 10 + [False] * 2, "not open to everything"
        store.fails = False
        await tested.acquire(TEN)  # finds out that it answers
        async with asyncio.timeout(5):
            while (await tested.acquire(TEN)).wait_s:
                await asyncio.sleep(0.01)
        assert (await tested.acquire(TEN)).remaining < 9, "by the database, where little was counted"

    asyncio.run(send())


def test_a_database_that_is_silent_delays_only_the_first(store: Database) -> None:
    async def send() -> None:
        tested = rates(store, wait_s=0.2)
        store.answers.clear()
        started = time.monotonic()
        first = await asyncio.gather(*(tested.acquire(TEN) for _ in range(5)))
        assert 0.15 < time.monotonic() - started < 5 and all(each.wait_s == 0 for each in first)
        started = time.monotonic()
        later = [await tested.acquire(TEN) for _ in range(7)]
        assert time.monotonic() - started < 0.15, "they do not wait"
        assert [each.wait_s == 0 for each in later] == [True] * 5 + [False] * 2
        assert len(store.calls) <= 2, "nothing piles up"
        store.answers.set()
        async with asyncio.timeout(5):
            while (await tested.acquire(TEN)).wait_s:
                await asyncio.sleep(0.01)

    asyncio.run(send())
