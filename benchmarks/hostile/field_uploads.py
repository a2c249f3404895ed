"""Inputs from the field that are sent to the service: each check returns what is wrong, or an empty text."""

from __future__ import annotations

import base64
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.hostile.service import draw, new_character

Check = Callable[[httpx.AsyncClient, Path], Awaitable[str]]
_ORIGIN = "https://studio.example"
#: Setting that the check of other origins needs.
ORIGINS = f'serving.allowed_origins=["{_ORIGIN}"]'
_LONG = "a robot on the beach, " + "very detailed, " * 90


async def panorama(client: httpx.AsyncClient, folder: Path) -> str:
    made = await new_character(client, "panorama", (folder / "uploads/panorama.png").read_bytes())
    return _not(200, await draw(client, characters=[{"id": made["id"]}]))


async def large_size(client: httpx.AsyncClient, folder: Path) -> str:
    answer = await draw(client, size="1024x1792", steps=4)
    if answer.status_code not in (200, 400):
        return _not(200, answer)
    after = _not(200, await draw(client))
    return after and f"a small request afterwards: {after}"


async def bust(client: httpx.AsyncClient, folder: Path) -> str:
    """The subject reaches the lower border, and so does what is found of it."""
    made = await new_character(client, "bust", (folder / "uploads/bust.png").read_bytes())
    path = f"/v1/characters/{made['id']}/pictures/{made['pictures'][0]['id']}/mask.png"
    answer = await client.get(path)
    if answer.status_code != 200:
        return _not(200, answer)
    found = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")) > 127
    with Image.open(folder / "uploads/bust.png") as picture:
        wanted = (np.asarray(picture.convert("RGB")) != 255).any(2)
    iou = (found & wanted).sum() / (found | wanted).sum()
    return "" if iou >= 0.9 else f"IoU of the subject is {iou:.2f}, not 0.9"


async def long_metadata(client: httpx.AsyncClient, folder: Path) -> str:
    await new_character(client, "metadata", (folder / "uploads/long_metadata.png").read_bytes())
    return ""


async def typographic_mention(client: httpx.AsyncClient, folder: Path) -> str:
    await new_character(client, "Ada Lovelace", (folder / "uploads/good.png").read_bytes())
    answer = await draw(client, "@“Ada Lovelace” on the beach")
    if answer.status_code != 200:
        return _not(200, answer)
    unknown = await draw(client, "@“Nobody Known” on the beach")
    return _not(400, unknown) or ("" if answer.json()["target_words"] else "the answer names no character's word")


async def weights(client: httpx.AsyncClient, folder: Path) -> str:
    return _without_note(await draw(client, "a (robot:1.3) with a ((red hat))"))


async def long_prompt(client: httpx.AsyncClient, folder: Path) -> str:
    answer = await draw(client, _LONG)
    return _without_note(answer)


async def seeds(client: httpx.AsyncClient, folder: Path) -> str:
    both = await draw(client, n=2, seed=4294967295)
    if both.status_code != 200:
        return _not(200, both)
    body = both.json()
    again = await draw(client, seed=(body["seed"] + 1) % 2**32)
    if again.status_code != 200:
        return _not(200, again)
    same = _pixels(again.json()["data"][0]) == _pixels(body["data"][1])
    return "" if same else "the second seed gives another image"


async def numbered_files(client: httpx.AsyncClient, folder: Path) -> str:
    picture = (folder / "uploads/good.png").read_bytes()
    files = [(f"image[{index}]", (f"{index}.png", picture)) for index in range(2)]
    form = {"prompt": "a robot on the beach", "target_word": "robot", "steps": "4"}
    return _not(200, await client.post("/v1/images/edits", data=form, files=files))


async def preflight(client: httpx.AsyncClient, folder: Path) -> str:
    asked = {"Origin": _ORIGIN, "Access-Control-Request-Method": "POST"}
    async with httpx.AsyncClient(base_url=client.base_url) as stranger:  # without a key
        answer = await stranger.options("/v1/images/generations", headers=asked)
    allowed = answer.headers.get("access-control-allow-origin")
    return _not(200, answer) or ("" if allowed == _ORIGIN else f"the allowed origin is {allowed}")


#: By number and name of the input.
CHECKS: dict[str, Check] = {
    "1 panorama": panorama,
    "2 large size": large_size,
    "3 bust": bust,
    "4 long metadata": long_metadata,
    "9 typographic mention": typographic_mention,
    "10 weights": weights,
    "11 long prompt": long_prompt,
    "12 seeds": seeds,
    "13 numbered files": numbered_files,
    "14 preflight": preflight,
}


def _not(status: int, answer: httpx.Response) -> str:
    return "" if answer.status_code == status else f"{answer.status_code} instead of {status}: {answer.text[:300]}"


def _without_note(answer: httpx.Response) -> str:
    return _not(200, answer) or ("" if answer.json().get("notes") else "200 without a note")


def _pixels(image: dict[str, Any]) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))).tobytes()
