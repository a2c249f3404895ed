"""The service as a client times it: a new character, and two images of another one."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from components.errors import RealCustomError
from components.rehearsal.written_inputs import VIEWS, rows

_SEED = 4
_ENCODE_S = 600.0
_TOKENS = "realcustom_subject_tokens_total"


def draw_characters(client: httpx.Client, pictures: Path, size: tuple[int, int]) -> dict[str, float]:
    """Seconds of the image of a new character, and of the first and the second image of another one.

    ``new_character_s`` begins before the character is uploaded, and warms the service up. The other character is drawn
    when the service has encoded it in the background, and no image has shown it yet: ``first_over_second`` is the ratio
    of its images.

    Args:
        pictures: see `components.rehearsal.written_inputs.write_pictures`.
        size: width and height of the images in pixels.

    Raises:
        RealCustomError: an image has another size, or a character is not encoded in ten minutes.
    """
    mine, other = rows(pictures)[0], rows(pictures)[VIEWS]
    before = _encoded(client)
    began = time.monotonic()
    _generate(client, mine, _create_character(client, pictures, mine), size)
    new = time.monotonic() - began
    character = _create_character(client, pictures, other)
    deadline = time.monotonic() + _ENCODE_S
    while _encoded(client) < before + 2:
        if time.monotonic() > deadline:
            raise RealCustomError(f"the service did not encode a new character in {_ENCODE_S:g} seconds")
        time.sleep(0.5)
    first, second = (_generate(client, other, character, size) for _ in range(2))
    return {"new_character_s": new, "stored_character_s": first, "next_s": second, "first_over_second": first / second}


def _encoded(client: httpx.Client) -> float:
    """How many characters the service has encoded."""
    families = text_string_to_metric_families(client.get("/metrics").raise_for_status().text)
    samples = (sample for family in families for sample in family.samples)
    return sum(each.value for each in samples if each.name == _TOKENS and each.labels["source"] == "computed")


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
