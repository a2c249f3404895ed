"""Bodies made to be costly: for how long each holds up the event loop of the gateway."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx

from benchmarks.hostile.service import Studio

_SIZE = 9_900_000
_SAMPLE_S = 0.02


def costly_bodies() -> dict[str, bytes]:
    """Bodies of about ten megabytes, by what is costly in them."""
    keys = ",".join(f'"key {index}":{index}' for index in range(500_000))
    mentions = " ".join(f"@{index:x}" for index in range(10_000))
    return {
        "unknown keys": f"{{{keys}}}".encode()[:_SIZE] + b"}",
        "10,000 mentions": json.dumps({"prompt": mentions}).encode(),
        "1,000 mentions": json.dumps({"prompt": mentions[:4000]}).encode(),
        "lists in lists": b"[" * _SIZE,
        "objects in objects": b'{"a":' * (_SIZE // 5),
        "numbers": b'{"characters":[' + b"1," * (_SIZE // 2 - 20) + b"1]}",
        "a long string": b'{"prompt":"' + b"\\\\" * (_SIZE // 2 - 20) + b'"}',
    }


async def bodies(studio: Studio) -> dict[str, Any]:
    """Send each body while another connection asks for ``/healthz``, which waits for nothing but the event loop."""
    found: dict[str, Any] = {}
    async with studio.client() as client, studio.client() as watcher:
        for name, body in costly_bodies().items():
            idle = await _longest(watcher, 10 * _SAMPLE_S)
            watch = asyncio.create_task(_longest(watcher, None))
            await asyncio.sleep(_SAMPLE_S)
            statuses = [await _post(client, path, body) for path in ("/v1/images/generations", "/v1/jobs")]
            watch.cancel()
            found[name] = {"statuses": statuses, "event_loop_s": await watch, "idle_s": idle}
    return body_figures(found)


def body_figures(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_loop_s": max(one["event_loop_s"] for one in found.values()),
        "body_failures": [name for name, one in found.items() if not all(400 <= s < 500 for s in one["statuses"])],
        "bodies": found,
    }


async def _post(client: httpx.AsyncClient, path: str, body: bytes) -> int:
    """The status; a server that hangs up on a body it does not want counts as 413."""
    try:
        return (await client.post(path, content=body, headers={"Content-Type": "application/json"})).status_code
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        return 413


async def _longest(client: httpx.AsyncClient, seconds: float | None) -> float:
    """Longest time to an answer of ``/healthz``, for so many seconds or until it is cancelled."""
    longest, started = 0.0, time.perf_counter()
    asked = started
    try:
        while seconds is None or time.perf_counter() - started < seconds:
            asked = time.perf_counter()
            await client.get("/healthz")
            longest = max(longest, time.perf_counter() - asked)
            await asyncio.sleep(_SAMPLE_S)
    except asyncio.CancelledError:
        pass
    return longest
