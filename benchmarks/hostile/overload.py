"""Overload with twice the capacity, for minutes."""

from __future__ import annotations

from typing import Any

from benchmarks.hostile.service import Studio, robot
from benchmarks.service.server_process import Scene, Service
from benchmarks.service.soak import soak


async def overload(studio: Studio, seconds: float) -> dict[str, Any]:
    """Answers other than those of a full service, and growth of memory."""
    async with studio.client() as client:
        service = await Service.prepare(client, Scene("a robot on the beach", "robot", robot()))
        found = await soak(service, studio.process, seconds)
    return overload_figures(found)


def overload_figures(found: dict[str, Any]) -> dict[str, Any]:
    """`benchmarks.service.figures.soak_figures` by the names of this report."""
    named = {"errors_other_than_429_503": found["other_answers"], "rss_growth": found["memory_growth"]}
    return named | {"soak": found}
