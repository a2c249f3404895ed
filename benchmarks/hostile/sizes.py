"""The largest legal size beside small ones: what small requests get while one is generated."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import Any

import httpx

from benchmarks.hostile.service import OWNERS, Studio, draw

#: Requests that are tried in turn, from what nobody should ask of a miniature to what is reported as served.
_TRIED = ((2048, 2048, 100), (1024, 1792, 4), (1792, 1024, 1))
_SERVED = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
#: Answers by which a busy service asks for patience.
_ALLOWED = frozenset({200, 429})


async def sizes(studio: Studio, seconds: float, rate: float = 2.0) -> dict[str, Any]:
    """Outages while the largest sizes are requested, for at least ``seconds``.

    A request that is refused (400) with a size that is served is repeated with that size, which has to work.

    Args:
        rate: small requests a second.
    """
    before = studio.generators()
    statuses: Counter[int] = Counter()
    waits: list[float] = []
    large: dict[str, Any] = {}
    enough = asyncio.Event()
    async with studio.client(OWNERS[0]) as first, studio.client(OWNERS[1]) as second:
        watch = asyncio.create_task(_small_requests(second, rate, enough, statuses, waits))
        started = time.perf_counter()
        for width, height, steps in _TRIED:
            large |= await _large(first, width, height, steps)
        await asyncio.sleep(max(0.0, started + seconds - time.perf_counter()))
        enough.set()
        await watch
        ready = await second.get("/readyz")
    return outage_figures(statuses, large, before, studio.generators()) | {
        "slowest_small_s": max(waits, default=0.0),
        "ready_afterwards": ready.status_code == 200,
    }


def outage_figures(statuses: Counter[int], large: dict[str, Any], before: set[int], after: set[int]) -> dict[str, Any]:
    """Outages are small requests that fail, large ones that neither work nor are refused, and replaced generators."""
    failed = sum(number for status, number in statuses.items() if status not in _ALLOWED)
    broken = sum(found["status"] not in (200, 400) for found in large.values())
    return {
        "outages": failed + broken + len(before - after),
        "small_answers": {str(status): number for status, number in sorted(statuses.items())},
        "large": large,
        "generators_replaced": len(before - after),
    }


async def _small_requests(
    client: httpx.AsyncClient, rate: float, enough: asyncio.Event, statuses: Counter[int], waits: list[float]
) -> None:
    async def one(seed: int) -> None:
        started = time.perf_counter()
        statuses[await _status(client, seed=seed)] += 1
        waits.append(time.perf_counter() - started)

    tasks, seed = [], 0
    while not enough.is_set():
        tasks.append(asyncio.create_task(one(seed)))
        seed += 1
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*tasks)


async def _large(client: httpx.AsyncClient, width: int, height: int, steps: int) -> dict[str, Any]:
    """What became of a large request, and of the largest size that its refusal names."""
    found = await _asked(client, width, height, steps)
    answers = {f"{width}x{height}, {steps} steps": found}
    directly = found.get("message", "").partition("POST /v1/jobs")[0]
    served = _SERVED.findall(directly.replace(f"{width}x{height}", ""))
    if found["status"] == 400 and served:
        smaller = max(served, key=lambda size: int(size[0]) * int(size[1]))
        answers[f"{smaller[0]}x{smaller[1]}, {steps} steps"] = await _asked(client, *map(int, smaller), steps)
    return answers


async def _asked(client: httpx.AsyncClient, width: int, height: int, steps: int) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        answer = await draw(client, size=f"{width}x{height}", steps=steps)
    except httpx.HTTPError as error:
        return {"status": 0, "message": type(error).__name__, "seconds": time.perf_counter() - started}
    message = "" if answer.status_code == 200 else answer.json()["error"]["message"]
    return {"status": answer.status_code, "message": message, "seconds": time.perf_counter() - started}


async def _status(client: httpx.AsyncClient, **fields: Any) -> int:
    try:
        return (await draw(client, **fields)).status_code
    except httpx.HTTPError:
        return 0
