"""The service as a client times it: a new character, and two images of another one."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from PIL import Image

from components.errors import RealCustomError
from components.rehearsal.written_inputs import VIEWS, rows

_SEED = 4


def draw_characters(client: httpx.Client, pictures: Path, size: tuple[int, int]) -> dict[str, float]:
    """Seconds of the image of a new character, and of the first and the second image of another one.

    ``new_character_s`` begins before the character is uploaded, and warms the service up. No image has shown the other
    character yet, so that nothing of it is in the service's memory: ``first_over_second`` is the ratio of its images.

    Args:
        pictures: see `components.rehearsal.written_inputs.write_pictures`.
        size: width and height of the images in pixels.

    Raises:
        RealCustomError: an image has another size.
    """
    mine, other = rows(pictures)[0], rows(pictures)[VIEWS]
    began = time.monotonic()
    _generate(client, mine, _create_character(client, pictures, mine), size)
    new = time.monotonic() - began
    character = _create_character(client, pictures, other)
    first, second = (_generate(client, other, character, size) for _ in range(2))
    return {"new_character_s": new, "stored_character_s": first, "next_s": second, "first_over_second": first / second}


def _create_character(client: httpx.Client, pictures: Path, row: Mapping[str, str]) -> str:
    """The id of a new character that the picture of ``row`` shows."""
    files = {"pictures": ("reference.png", (pictures / row["image"]).read_bytes())}
    word = row.get("word") or row["caption"].split()[1]
    created = client.post("/v1/characters", data={"name": "Rehearsal", "target_word": word}, files=files)
    return str(created.raise_for_status().json()["id"])


def _generate(client: httpx.Client, row: Mapping[str, str], character: str, size: tuple[int, int]) -> float:
    """Seconds of an image of the prompt of ``row`` with a character."""
    wanted = f"{size[0]}x{size[1]}"
    request = {"prompt": row["caption"], "size": wanted, "seed": _SEED, "characters": [{"id": character}]}
    began = time.monotonic()
    answer = client.post("/v1/images/generations", json=request).raise_for_status()
    seconds = time.monotonic() - began
    image = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    if image.size != size:
        raise RealCustomError(f"the service generated {image.size}, not {size[0]} x {size[1]} pixels")
    return seconds
