"""Load generators: closed-loop clients, and open-loop arrivals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

from benchmarks.service.server_process import Answer, Target

Send = Callable[[int], Awaitable[Answer]]
#: Seconds between the first long request and the first short one.
_AHEAD_S = 1.0


@dataclass(frozen=True)
class LoadResult:
    """Responses of concurrent clients, and the seconds until the last one."""

    answers: list[Answer]
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return sum(answer.status == 200 for answer in self.answers) / self.seconds


async def keep_busy(target: Target, clients: int, requests: int, steps: int) -> LoadResult:
    """Closed loop: ``clients`` send ``requests`` in total, each its next one after a response."""
    seeds = iter(range(requests))
    answers: list[Answer] = []

    async def client() -> None:
        for seed in seeds:
            answers.append(await target.generate(seed, steps))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return LoadResult(answers, time.perf_counter() - started)


async def short_among_long(target: Target, longs: int, shorts: int, steps: tuple[int, int]) -> list[Answer]:
    """Responses to ``shorts`` short requests of one client while ``longs`` others send long ones continuously.

    Args:
        steps: of a short request, and of a long one.
    """
    seeds = count()
    enough = asyncio.Event()

    async def long() -> None:
        while not enough.is_set():
            await target.generate(next(seeds), steps[1])

    background = [asyncio.create_task(long()) for _ in range(longs)]
    await asyncio.sleep(_AHEAD_S)
    try:
        return [await target.generate(next(seeds), steps[0]) for _ in range(shorts)]
    finally:  # so that the next measurement starts with an idle server
        enough.set()
        await asyncio.gather(*background)


async def arrivals(sends: Callable[[int], Send], rate: float, seconds: float) -> list[Answer]:
    """Answers of requests that arrive ``rate`` times a second for so many seconds, whatever became of those before.

    Args:
        sends: what the arrival of a number sends.
    """
    started = time.perf_counter()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(sends(number)(number)))
    return list(await asyncio.gather(*tasks))
