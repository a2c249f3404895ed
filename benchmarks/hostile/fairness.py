"""Two keys: the latency of one that sends one request at a time, alone and while the other sends 40 at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from typing import Any

from benchmarks.hostile.service import OWNERS, Studio, draw
from benchmarks.service.figures import percentile

#: Requests that a full service refuses are sent again after these seconds.
_AGAIN_S = 0.25
_REFUSED = frozenset({429, 503})
#: Seconds until a request that is refused again and again counts with the time that has passed.
_GIVE_UP_S = 120.0

#: Sends the image of a seed; returns the status.
Send = Callable[[int], Awaitable[int]]


async def fairness(studio: Studio, requests: int, parallel: int, steps: int) -> dict[str, Any]:
    """Figures of two keys, all of whose requests have the same size.

    Args:
        requests: of the second key, one at a time; as many alone as beside the first key.
        parallel: requests of the first key at a time.
    """
    async with studio.client(OWNERS[0]) as first, studio.client(OWNERS[1]) as second:

        async def of_first(seed: int) -> int:
            return (await draw(first, seed=seed, steps=steps)).status_code

        async def of_second(seed: int) -> int:
            return (await draw(second, seed=seed, steps=steps)).status_code

        return await compare(of_first, of_second, requests, parallel)


async def compare(first: Send, second: Send, requests: int, parallel: int) -> dict[str, Any]:
    seeds, statuses = count(), Counter[int]()
    await timed(second, next(seeds), Counter())
    alone = [await timed(second, next(seeds), statuses) for _ in range(requests)]
    enough, others = asyncio.Event(), Counter[int]()

    async def keep_sending() -> None:
        while not enough.is_set():
            status = await first(next(seeds))
            others[status] += 1
            if status != 200:
                await asyncio.sleep(_AGAIN_S)

    tasks = [asyncio.create_task(keep_sending()) for _ in range(parallel)]
    await asyncio.sleep(2 * max(alone))
    beside = [await timed(second, next(seeds), statuses) for _ in range(requests)]
    enough.set()
    await asyncio.gather(*tasks)
    return fairness_figures(alone, beside) | {
        "second_key_answers": {str(status): number for status, number in sorted(statuses.items())},
        "first_key_answers": {str(status): number for status, number in sorted(others.items())},
    }


async def timed(send: Send, seed: int, statuses: Counter[int]) -> float:
    """Seconds until the image is there, refusals included."""
    started = time.perf_counter()
    while True:
        status = await send(seed)
        statuses[status] += 1
        seconds = time.perf_counter() - started
        if status not in _REFUSED or seconds > _GIVE_UP_S:
            return seconds
        await asyncio.sleep(_AGAIN_S)


def fairness_figures(alone: list[float], beside: list[float]) -> dict[str, Any]:
    p99 = {"alone": percentile(alone, 0.99), "beside": percentile(beside, 0.99)}
    return {
        "second_key_p99_ratio": p99["beside"] / p99["alone"],
        "second_key_p99_s": p99,
        "second_key_median_s": {"alone": median(alone), "beside": median(beside)},
    }
