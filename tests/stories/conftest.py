"""The service with stories, in a thread and over fakes, and what tests do with it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from components.config import Config, load_config
from tests.fakes.service_process import QUICK, running
from tests.fixtures.job_stores import database

__all__ = ["database"]

#: Those of the fake pipeline.
LORAS = "model.loras={flat: flat.safetensors, ink: ink.safetensors}"
CONTROLS = "model.controls={pose: controls/pose}"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/store", "sampling.steps=3", LORAS, CONTROLS, *QUICK])


@pytest.fixture
def client(config: Config) -> Iterator[httpx.Client]:
    with running(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def picture(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "PNG")
    return buffer.getvalue()


def character(client: httpx.Client, name: str, word: str = "robot", color: str = "red") -> str:
    form = {"name": name, "target_word": word, "description": f"a {color} {word}"}
    answer = client.post("/v1/characters", data=form, files={"pictures": ("a.png", picture(color))})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def create(client: httpx.Client, script: str = "", **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/stories", json={"title": "Rob at sea", "script": script} | fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def read(client: httpx.Client, story: str) -> dict[str, Any]:
    answer = client.get(f"/v1/stories/{story}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def draw(client: httpx.Client, story: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/stories/{story}/draw", json=fields)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def drawn(client: httpx.Client, story: str, within_s: float = 30) -> dict[str, Any]:
    """The story once nothing of it is being drawn."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = read(client, story)
        if all(panel["job"] is None for panel in found["panels"]):
            return found
        time.sleep(0.02)
    raise AssertionError(f"still drawing: {[panel['job'] for panel in found['panels']]}")
