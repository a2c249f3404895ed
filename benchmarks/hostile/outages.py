"""Database and object store black-holed under load: what becomes of accepted jobs and of charges."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from benchmarks.hostile.backends import postgres, s3
from benchmarks.hostile.black_hole import BlackHoleProxy
from benchmarks.hostile.service import OWNERS, Studio, studio
from components.access.limits import UsageLedger

#: The bodies of all requests; each costs the same.
_SIDE, _STEPS = 64, 4
_BODY = {"prompt": "a robot on the beach", "size": f"{_SIDE}x{_SIDE}", "steps": _STEPS}
COST = _SIDE * _SIDE * _STEPS
_FINAL = frozenset({"done", "failed", "cancelled"})
#: Seconds between looks, of a client's patience, and until the last job and refund have to be there.
_LOOK_S, _PATIENCE_S, _DRAIN_S = 1.0, 20.0, 240.0
#: Seconds of load before the first black hole and after each.
_AROUND_S = 5.0


async def measure_outages(preset: str, work: Path, hole_s: float, rate: float) -> dict[str, Any]:
    """Drop the packets of the database, and then of the store, for ``hole_s`` seconds each.

    Args:
        work: where the service writes.
        rate: jobs a second, and half as many synchronous requests.
    """
    with _black_holed_service(preset, work) as (service, database, holes):
        before = _spent(database)
        load = _Load(service)
        await load.run(rate, holes, hole_s)
        await load.settle()
        spent = await _settled(lambda: _spent(database))
        charged = {owner: (spent.get(owner, 0) - before.get(owner, 0)) / COST for owner in OWNERS}
        listed = await load.listed()
    return job_figures(load.accepted, load.states, listed, charged, load.drawn) | load.answers()


def job_figures(
    accepted: Mapping[str, str],
    states: Mapping[str, str],
    listed: Mapping[str, str],
    charged: Mapping[str, float],
    drawn: int,
) -> dict[str, Any]:
    """Jobs that were lost or doubled, and images that were charged and never delivered.

    Args:
        accepted: job by idempotency key, of all keys for which a job was accepted at least once.
        states: final status of each accepted job, or what it is now.
        listed: status of every job that the service knows of the owner.
        charged: images that each owner of `OWNERS` was charged; jobs are the first one's.
        drawn: images that the second owner received in synchronous answers.
    """
    done = sum(state == "done" for state in listed.values())
    delivered = {OWNERS[0]: done, OWNERS[1]: drawn}
    return {
        "jobs_accepted": len(accepted),
        "jobs_lost": sum(states.get(job) != "done" for job in accepted.values()),
        "jobs_doubled": max(0, len(listed) - len(accepted)),
        "charged_not_delivered": sum(max(0.0, charged[owner] - delivered[owner]) for owner in OWNERS),
        "delivered_not_charged": sum(max(0.0, delivered[owner] - charged[owner]) for owner in OWNERS),
        "jobs_ended": dict(Counter(states.values())),
        "charged": dict(charged),
        "delivered": delivered,
    }


class _Load:
    """Jobs of the first key, each sent with one idempotency key until it is accepted; single images of the second."""

    def __init__(self, service: Studio) -> None:
        self._service = service
        self.accepted: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.drawn = 0
        self._statuses: Counter[str] = Counter()
        self._slowest = 0.0

    async def run(self, rate: float, holes: Mapping[str, BlackHoleProxy], hole_s: float) -> None:
        enough = asyncio.Event()
        async with self._client(OWNERS[0]) as jobs, self._service.client(OWNERS[1]) as images:
            senders = [
                asyncio.create_task(_paced(enough, rate, lambda number: self._submit(jobs, number))),
                asyncio.create_task(_paced(enough, rate / 2, lambda number: self._draw(images, number))),
            ]
            await asyncio.sleep(_AROUND_S)
            for hole in holes.values():
                with hole.dropping():
                    await asyncio.sleep(hole_s)
                await asyncio.sleep(_AROUND_S)
            enough.set()
            await asyncio.gather(*senders)

    async def settle(self) -> None:
        """Wait until every accepted job has ended, or `_DRAIN_S`."""
        deadline = time.monotonic() + _DRAIN_S
        async with self._client(OWNERS[0]) as client:
            while time.monotonic() < deadline:
                for job in self.accepted.values():
                    if self.states.get(job) not in _FINAL:
                        self.states[job] = await _status(client, job)
                if all(self.states.get(job) in _FINAL for job in self.accepted.values()):
                    return
                await asyncio.sleep(_LOOK_S)

    async def listed(self) -> dict[str, str]:
        """Status of every job of the owner."""
        found: dict[str, str] = {}
        async with self._service.client(OWNERS[0]) as client:
            page: dict[str, Any] = {"has_more": True}
            while page["has_more"]:
                after = {"after": list(found)[-1]} if found else {}
                answer = await client.get("/v1/jobs", params={"limit": "100"} | after)
                page = answer.raise_for_status().json()
                found |= {job["id"]: job["status"] for job in page["data"]}
        return found

    def answers(self) -> dict[str, Any]:
        return {"answers": dict(sorted(self._statuses.items())), "slowest_answer_s": self._slowest}

    def _client(self, owner: str) -> httpx.AsyncClient:
        return self._service.client(owner, _PATIENCE_S)

    async def _submit(self, client: httpx.AsyncClient, number: int) -> None:
        """Send a job until it is accepted, as a client with an idempotency key does."""
        key, deadline = f"job-{number}", time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline:
            answer = await self._post(client, "/v1/jobs", {"seed": number}, {"Idempotency-Key": key})
            if answer is not None and answer.status_code == 202:
                self.accepted[key] = answer.json()["id"]
                return
            await asyncio.sleep(_LOOK_S)

    async def _draw(self, client: httpx.AsyncClient, number: int) -> None:
        answer = await self._post(client, "/v1/images/generations", {"seed": number}, {})
        self.drawn += answer is not None and answer.status_code == 200

    async def _post(
        self, client: httpx.AsyncClient, path: str, fields: dict[str, Any], headers: dict[str, str]
    ) -> httpx.Response | None:
        started = time.monotonic()
        try:
            answer = await client.post(path, json=_BODY | fields, headers=headers)
        except httpx.HTTPError as error:
            self._statuses[f"{path}: {type(error).__name__}"] += 1
            return None
        self._slowest = max(self._slowest, time.monotonic() - started)
        self._statuses[f"{path}: {answer.status_code}"] += 1
        return answer


async def _paced(enough: asyncio.Event, rate: float, send: Callable[[int], Awaitable[None]]) -> None:
    tasks = []
    for number in count():
        if enough.is_set():
            break
        tasks.append(asyncio.ensure_future(send(number)))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*tasks)


async def _status(client: httpx.AsyncClient, job: str) -> str:
    try:
        answer = await client.get(f"/v1/jobs/{job}")
    except httpx.HTTPError:
        return "unknown"
    if answer.status_code == 404:
        return "lost"
    return str(answer.json()["status"]) if answer.status_code == 200 else "unknown"


async def _settled(spent: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What is charged once nothing changes for ten looks: refunds come late after an outage."""
    last, same = spent(), 0
    deadline = time.monotonic() + _DRAIN_S
    while same < 10 and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_S)
        now = spent()
        same = same + 1 if now == last else 0
        last = now
    return last


def _spent(database: sa.Engine) -> dict[str, int]:
    """Pixel-steps charged today, by owner."""
    with database.connect() as connection:
        owners: dict[str, str] = dict(connection.execute(sa.text("SELECT id, owner FROM api_keys")).tuples().all())
    found: Counter[str] = Counter()
    for key, amount in UsageLedger(database).spent().items():
        found[owners[key]] += amount
    return dict(found)


@contextmanager
def _black_holed_service(preset: str, work: Path) -> Iterator[tuple[Studio, sa.Engine, dict[str, BlackHoleProxy]]]:
    """A service whose database and store lie behind proxies; with an engine that goes around the database's."""
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        host, port = stack.enter_context(s3())
        database = BlackHoleProxy("127.0.0.1", server.port or 5432)
        store = BlackHoleProxy(host, port)
        stack.callback(database.close)
        stack.callback(store.close)
        stack.enter_context(_environment(f"http://127.0.0.1:{store.port}"))
        url = server.set(port=database.port).render_as_string(hide_password=False)
        direct = server.render_as_string(hide_password=False)
        settings = [f"serving.database={url}", "serving.store=s3://hostile/store"]
        service = stack.enter_context(studio(preset, work, settings, direct))
        yield service, sa.create_engine(direct), {"database": database, "store": store}


def _environment(endpoint: str) -> AbstractContextManager[None]:
    """Where clients of S3 find the server and their keys."""
    return _environ(
        {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    )


@contextmanager
def _environ(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
