"""Owners share the service: the queue in front of the generators, open requests, and two keys on the real service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.access.key import Scope
from components.access.store import KeyStore
from components.config import load_config
from components.database import open_database
from deploy import app
from deploy.api.app import create_app
from deploy.api.fair_generator import FairGenerator, places
from deploy.api.open_requests import OpenRequestsMiddleware
from deploy.api.quotas import Caller
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.fair_queue import FairQueue, Ticket
from deploy.interfaces.errors import BusyError, OwnerLimitError
from deploy.interfaces.protocols import Jobs
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GeneratedImage, GenerationEvent, GenerationResult
from deploy.interfaces.stories import Stories
from deploy.status.replica_status import RecentReports, ReplicaReport, ReplicaStatus

# The queue

#: An owner enters, or the request with this number (modulo the open ones) leaves, or the number of places changes.
ACTIONS = st.lists(
    st.sampled_from("abcde").map(lambda owner: ("enter", owner))
    | st.integers(0, 50).map(lambda number: ("leave", number))
    | st.integers(1, 9).map(lambda number: ("resize", number)),
    max_size=150,
)


@given(ACTIONS, st.integers(1, 9), st.integers(0, 20), st.integers(1, 20))
def test_places_are_shared(actions: list[tuple[str, Any]], most: int, waiting: int, owned: int) -> None:
    queue, tickets, largest = FairQueue(most, waiting, owned), list[Ticket](), most

    def counts(holding: bool) -> dict[str, int]:
        return {owner: sum(t.owner == owner and t.holds is holding for t in tickets) for owner in "abcde"}

    def check_served(served: list[Ticket]) -> None:
        for ticket in served:
            earlier = tickets[: tickets.index(ticket)]
            assert all(other.holds for other in earlier if other.owner == ticket.owner), "an owner's in their order"

    for action, value in actions:
        if action == "enter":
            try:
                tickets.append(queue.enter(value))
            except OwnerLimitError:
                assert counts(False)[value] >= owned
            except BusyError:
                assert sum(counts(False).values()) >= waiting
        elif action == "leave" and tickets:
            ticket = tickets.pop(value % len(tickets))
            served = queue.leave(ticket)
            check_served(served)
            for each in served:
                rivals = [other for other, count in counts(False).items() if count]
                assert all(counts(True)[each.owner] <= counts(True)[other] + 1 for other in rivals)
        elif action == "resize":
            most, largest = value, max(largest, value)
            check_served(queue.resize(value))
        holding, waits = counts(True), counts(False)
        assert queue.held == sum(holding.values()) and queue.waiting == sum(waits.values()) <= waiting
        assert queue.held <= 2 * largest
        for owner, count in waits.items():
            assert count <= owned
            if count:
                assert queue.held >= most, "a place that is free is not kept"
                assert holding[owner] or queue.held >= 2 * most, "who holds none waits only for others like it"


@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 60))
def test_two_who_want_more_than_there_is_get_equal_parts(most: int, first: int, second: int) -> None:
    queue = FairQueue(most, 1000, 1000)
    tickets = [queue.enter("a") for _ in range(most + first)] + [queue.enter("b") for _ in range(most + second)]
    for _ in range(min(first, second)):
        done = next(ticket for ticket in tickets if ticket.holds)
        tickets.remove(done)
        queue.leave(done)
    held = [sum(t.holds for t in tickets if t.owner == owner) for owner in "ab"]
    assert sum(held) >= most and held[1] >= 1
    while queue.waiting:
        tickets.remove(done := next(ticket for ticket in tickets if ticket.holds))
        queue.leave(done)
    assert queue.held <= 2 * most


def test_everybody_without_a_key_may_fill_the_queue() -> None:
    queue = FairQueue(1, 3, 1)
    tickets = [queue.enter("") for _ in range(4)]
    assert [ticket.holds for ticket in tickets] == [True, False, False, False]
    with pytest.raises(BusyError) as refused:
        queue.enter("")
    assert not isinstance(refused.value, OwnerLimitError)


def test_a_gateway_has_its_part_of_the_places() -> None:
    serving = load_config("tiny", ["serving.max_replicas=3"]).serving
    reports = [ReplicaReport("gateway", f"g{i}") for i in range(2)] + [ReplicaReport("jobs", "j")]
    assert places([], serving) == 8
    assert places(reports, serving) == 4
    reports += [ReplicaReport("generator", f"n{i}") for i in range(2)]
    assert places(reports, serving) == 12, "one more is asked for"
    reports += [ReplicaReport("generator", "n2")]
    assert places(reports, serving) == 12, "there may be no more"


# The gateway


class HeldGenerator:
    """Ends a request when it is let; without owners, as a generator's own queue."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let = asyncio.Semaphore(0)

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        self.begun.append(request.owner)
        await self.let.acquire()
        return GenerationResult([GeneratedImage(b"png", (), 0.1)] * len(request.seeds), {}, model_version="7")

    async def stream(self, request: GenerationRequest, previews: int) -> AsyncGenerator[GenerationEvent, None]:
        yield await self.generate(request)


@asynccontextmanager
async def gateway(tmp_path: Path, generator: Any, *settings: str) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A gateway that requires keys, and the header of a new key by owner."""
    limits = ["serving.max_ongoing_requests=2", "serving.max_replicas=1", "serving.max_queued_requests=8"]
    keys = ["serving.access.keys=required", "serving.access.refresh_s=0.01", f"serving.store={tmp_path}"]
    config = load_config("tiny", [*limits, *keys, *settings])
    store = KeyStore(open_database(config.serving.store, None))

    def key(owner: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {store.create(owner, 'test', [Scope.ADMIN])[1]}"}

    model = ModelResponse(id="realcustom-tiny", version="7")
    served = create_app(config, model, CharacterService(config), generator, cast(Jobs, None), cast(Stories, None))
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
        yield client, key


def test_one_key_with_many_requests_does_not_lock_the_others_out(tmp_path: Path) -> None:
    async def ask() -> None:
        generator = HeldGenerator()
        async with gateway(tmp_path, generator) as (client, key):
            many, one = key("many"), key("one")
            await asyncio.sleep(0.05)

            def draw(header: dict[str, str]) -> asyncio.Task[httpx.Response]:
                body = {"prompt": "a robot", "steps": 1}
                return asyncio.create_task(client.post("/v1/images/generations", json=body, headers=header))

            first = [draw(many) for _ in range(40)]
            async with asyncio.timeout(60):
                while sum(task.done() for task in first) < 34:
                    await asyncio.sleep(0.01)
            refused = [task.result() for task in first if task.done()]
            assert {(r.status_code, r.json()["error"]["code"]) for r in refused} == {(429, "queue_full")}
            assert all(int(r.headers["Retry-After"]) >= 1 for r in refused)
            assert generator.begun == ["many"] * 2, "four wait, which is its share of eight"
            second = [draw(one) for _ in range(3)]
            async with asyncio.timeout(60):
                while len(generator.begun) < 3:
                    await asyncio.sleep(0.01)
            assert generator.begun[2:] == ["one"], "it does not wait for one of them to be done"
            cancelled = second.pop()
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            generator.let = _released(generator.let, 50)
            answers = [answer for answer in await asyncio.gather(*first, *second) if answer not in refused]
            assert {answer.status_code for answer in answers} == {200} and len(answers) == 8
            assert "one" in generator.begun[3:6], "in turns"

    asyncio.run(ask())


def _released(semaphore: asyncio.Semaphore, count: int) -> asyncio.Semaphore:
    for _ in range(count):
        semaphore.release()
    return semaphore


def test_a_request_that_is_given_up_leaves_the_queue() -> None:
    async def give_up() -> None:
        generator = HeldGenerator()
        serving = load_config("tiny", ["serving.max_ongoing_requests=1", "serving.max_replicas=1"]).serving
        fair = FairGenerator(generator, serving, RecentReports(ReplicaStatus()))
        request = GenerationRequest("a robot", "", 64, 64, 1, 3.5, (1,), (), None, owner="a")
        first, second, third = (asyncio.create_task(fair.generate(request)) for _ in range(3))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        _released(generator.let, 1)
        assert (await third).model_version == "7" and len(generator.begun) == 2

    asyncio.run(give_up())


def test_an_owner_has_a_share_of_the_open_requests() -> None:
    async def ask() -> list[int]:
        ended = asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await ended.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        limited = OpenRequestsMiddleware(endless, limit=2)

        async def request(owner: str) -> int:
            statuses = []

            async def send(message: Any) -> None:
                statuses.append(message.get("status"))

            scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {"caller": Caller(owner)}}
            await limited(scope, cast(Any, None), send)
            return cast(int, statuses[0])

        tasks = [asyncio.create_task(request(owner)) for owner in ("a", "a", "a", "b")]
        await asyncio.sleep(0.01)
        ended.set()
        return [*await asyncio.gather(*tasks), await request("a")]

    assert asyncio.run(ask()) == [200, 200, 429, 200, 200]


# The real service


@pytest.mark.slow
def test_a_key_with_forty_requests_at_once_slows_another_one_down_threefold_at_most(
    tmp_path: Path, ray_cluster: None
) -> None:
    keys = ["serving.access.keys=required", "serving.access.refresh_s=0.1", "serving.port=0"]
    config = load_config("tiny", [*keys, f"serving.store={tmp_path}", "serving.max_replicas=1"])
    store = KeyStore(open_database(config.serving.store, None))
    one, many = (store.create(owner, "test", [Scope.ADMIN])[1] for owner in ("one", "many"))
    url = app.start(config, registry="tests.fakes.miniature")
    try:
        alone, beside, delivered = asyncio.run(_measure(url, one, many))
    finally:
        app.stop()
    ratio = _p99(beside) / _p99(alone)
    print(f"alone {_p99(alone):.3f} s, beside {_p99(beside):.3f} s: {ratio:.2f}; the other key got {delivered} images")
    assert delivered > len(beside), "it is not locked out either"
    assert ratio <= 3


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


async def _measure(url: str, one: str, many: str) -> tuple[list[float], list[float], int]:
    """Seconds of requests of ``one``, alone and beside forty of ``many`` at once, and what those delivered."""
    body = {"prompt": "a red robot on the beach", "steps": 20}
    limits = httpx.Limits(max_connections=100)
    delivered = 0
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def draw(key: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}"}
            return await client.post("/v1/images/generations", json=body, headers=headers)

        async def timed(count: int) -> list[float]:
            seconds = []
            for _ in range(count):
                started = time.perf_counter()
                answer = await draw(one)
                seconds.append(time.perf_counter() - started)
                assert answer.status_code == 200, answer.text
            return seconds

        async def insist() -> None:
            nonlocal delivered
            while True:
                answer = await draw(many)
                assert answer.status_code in (200, 429), answer.text
                delivered += answer.status_code == 200
                if answer.status_code == 429:
                    await asyncio.sleep(min(2, int(answer.headers["Retry-After"])))

        await timed(3)
        alone = await timed(30)
        tasks = [asyncio.create_task(insist()) for _ in range(40)]
        await asyncio.sleep(5)
        delivered = 0
        beside = await timed(60)
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return alone, beside, delivered
