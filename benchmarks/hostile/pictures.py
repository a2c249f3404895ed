"""Thin and huge pictures: no failure of the service, and memory that their own pixels bound."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from PIL import Image

from benchmarks.hostile.service import Studio, draw, png

#: Widths and heights, all within `serving.max_upload_pixels`.
SHAPES = (
    (100_000, 500),
    (500, 100_000),
    (65_000, 1),
    (1, 65_000),
    (49_000_000 // 64, 64),
    (7000, 7000),
    (12_000, 3000),
)
_SAMPLE_S = 0.05


async def pictures(studio: Studio) -> dict[str, Any]:
    """Upload each shape as a character, draw it, and fetch its cut-out; refusals (400) are fine, failures are not."""
    answers: dict[str, Any] = {}
    async with studio.client() as client:
        await draw(client)
        base = studio.memory()
        for width, height in SHAPES:
            sample = asyncio.create_task(_most(studio))
            found = await _one(client, png(Image.new("RGB", (width, height), "white")))
            sample.cancel()
            most = await sample
            answers[f"{width}x{height}"] = found | {"peak_mib": (most - base) / 2**20}
        await asyncio.sleep(1)
        grown = studio.memory() - base
    return picture_figures(answers, grown)


def picture_figures(answers: dict[str, Any], grown: int) -> dict[str, Any]:
    failed = [f"{name}: {found['statuses']}" for name, found in answers.items() if not _sound(found["statuses"])]
    return {
        "picture_failures": failed,
        "picture_peak_mib": max(found["peak_mib"] for found in answers.values()),
        "picture_memory_growth_mib": grown / 2**20,
        "pictures": answers,
    }


def _sound(statuses: list[int]) -> bool:
    """Whether a picture was refused, or made a character that could be drawn, shown and deleted."""
    return statuses == [400] or (statuses[0] == 201 and max(statuses) < 300)


async def _one(client: httpx.AsyncClient, picture: bytes) -> dict[str, Any]:
    form = {"name": "shape", "target_word": "robot"}
    made = await client.post("/v1/characters", data=form, files={"pictures": ("shape.png", picture)})
    statuses = [made.status_code]
    if made.status_code == 201:
        character = made.json()
        path = f"/v1/characters/{character['id']}"
        drawn = await draw(client, characters=[{"id": character["id"]}])
        shown = await client.get(f"{path}/pictures/{character['pictures'][0]['id']}/cutout.png")
        statuses += [drawn.status_code, shown.status_code, (await client.delete(path)).status_code]
    return {"statuses": statuses}


async def _most(studio: Studio) -> int:
    """The largest resident memory until it is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, await asyncio.to_thread(studio.memory))
            await asyncio.sleep(_SAMPLE_S)
    except asyncio.CancelledError:
        return most
