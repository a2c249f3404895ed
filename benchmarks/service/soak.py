"""Overload with twice the capacity: responses, memory, and accepted jobs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import psutil

from benchmarks.service.figures import soak_figures
from benchmarks.service.load import Send, arrivals, keep_busy
from benchmarks.service.server_process import Service

logger = logging.getLogger(__name__)

#: Steps of each image.
_STEPS = 4
#: One of this many arrivals is a job.
_JOBS = 4
#: Requests and clients of the measurement of the capacity.
_MEASURED, _CLIENTS = 64, 8
_OVERLOAD = 2.0
#: Seconds between samples of memory and of jobs, and the time limit of the last jobs.
_LOOK_S, _DRAIN_S = 2.0, 600.0
#: Prefix of the names of Ray's serving processes.
_PROCESSES = ("ray::ServeReplica", "ray::ProxyActor", "ray::ServeController")


async def soak(service: Service, process: int, seconds: float) -> dict[str, Any]:
    """Overload the service of ``process``, and measure it."""
    await keep_busy(service, _CLIENTS, _MEASURED, _STEPS)
    capacity = (await keep_busy(service, _CLIENTS, _MEASURED, _STEPS)).rate
    rate = _OVERLOAD * capacity
    logger.info("soak: %.1f requests a second where %.1f can be done, for %.0f s", rate, capacity, seconds)
    memory: list[float] = []
    watch = asyncio.create_task(_watch(process, memory))

    def sends(number: int) -> Send:
        if number % _JOBS == 0:
            return lambda seed: service.submit(seed, _STEPS)
        return lambda seed: service.generate(seed, _STEPS)

    answers = await arrivals(sends, rate, seconds)
    ended = await _ends(service, [answer.body["id"] for answer in answers if answer.status == 202])
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    return soak_figures([answer.status for answer in answers], ended, memory, capacity, rate) | {"seconds": seconds}


async def _ends(service: Service, jobs: list[str]) -> list[str]:
    """The final status of each job, or its current one after a time limit."""
    logger.info("soak: %d jobs were accepted", len(jobs))
    states = dict.fromkeys(jobs, "unknown")
    open_jobs = set(jobs)
    for _ in range(int(_DRAIN_S / _LOOK_S)):
        for job in sorted(open_jobs):
            answer = await service.client.get(f"/v1/jobs/{job}")
            if answer.status_code == 200:
                states[job] = answer.json()["status"]
            elif answer.status_code == 404:
                states[job] = "lost"
        open_jobs = {job for job in open_jobs if states[job] in ("unknown", "queued", "running")}
        if not open_jobs:
            break
        await asyncio.sleep(_LOOK_S)
    return list(states.values())


async def _watch(process: int, memory: list[float]) -> None:
    while True:
        memory.append(float(resident(process)))
        await asyncio.sleep(_LOOK_S)


def resident(process: int) -> int:
    """Resident bytes of all serving processes that ``process`` has started."""
    total = 0
    for child in psutil.Process(process).children(recursive=True):
        try:
            if " ".join(child.cmdline()).startswith(_PROCESSES):
                total += child.memory_info().rss
        except psutil.Error:  # the process has ended
            continue
    return total
