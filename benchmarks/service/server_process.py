"""Servers in separate processes, and the requests to them."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
from PIL import Image

from components.config import load_config
from components.registry import tracking, versions

#: Time limits in seconds of a server's shutdown, and of a request.
_SHUTDOWN_TIMEOUT_S, _TIMEOUT_S = 60.0, 600.0


@dataclass(frozen=True)
class Scene:
    """The prompt of all requests, its target word, and the subject's reference."""

    prompt: str
    word: str
    reference: Image.Image

    @property
    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.reference.save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class Answer:
    """The response to a request: status 0 if there is none. ``body`` is the JSON without images."""

    status: int
    seconds: float
    body: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """A server that generates images of a scene."""

    async def generate(self, seed: int, steps: int) -> Answer: ...


class Plain:
    """The plain server; its subject is encoded once, before anything is timed."""

    def __init__(self, client: httpx.AsyncClient, scene: Scene, subject: int) -> None:
        self._client, self._scene, self._subject = client, scene, subject

    @classmethod
    async def prepare(cls, client: httpx.AsyncClient, scene: Scene) -> Plain:
        picture = base64.b64encode(scene.png).decode()
        answer = await client.post("/subjects", json={"picture": picture})
        return cls(client, scene, answer.raise_for_status().json())

    async def generate(self, seed: int, steps: int) -> Answer:
        asked = {"prompt": self._scene.prompt, "word": self._scene.word, "subject": self._subject}
        return await send(self._client, "/pictures", asked | {"seed": seed, "steps": steps})


class Service:
    """This project's service, with a stored ``character``."""

    def __init__(self, client: httpx.AsyncClient, scene: Scene, character: str) -> None:
        self.client, self._scene, self._character = client, scene, character

    @classmethod
    async def prepare(cls, client: httpx.AsyncClient, scene: Scene) -> Service:
        form = {"name": "subject", "target_word": scene.word}
        answer = await client.post("/v1/characters", data=form, files={"pictures": ("reference.png", scene.png)})
        return cls(client, scene, answer.raise_for_status().json()["id"])

    async def generate(self, seed: int, steps: int) -> Answer:
        return await send(self.client, "/v1/images/generations", self._order(seed, steps))

    async def submit(self, seed: int, steps: int) -> Answer:
        """Submit a job instead of a synchronous request."""
        return await send(self.client, "/v1/jobs", self._order(seed, steps) | {"partial_images": 0})

    async def forget(self) -> None:
        (await self.client.delete(f"/v1/characters/{self._character}")).raise_for_status()

    def _order(self, seed: int, steps: int) -> dict[str, Any]:
        chosen = [{"id": self._character}]
        return {"prompt": self._scene.prompt, "seed": seed, "steps": steps, "characters": chosen}


async def send(client: httpx.AsyncClient, path: str, asked: dict[str, Any]) -> Answer:
    started = time.perf_counter()
    try:
        answer = await client.post(path, json=asked)
    except httpx.HTTPError:
        return Answer(0, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    json = answer.headers.get("content-type", "").startswith("application/json")
    body = answer.json() if json else {}
    return Answer(answer.status_code, seconds, {k: v for k, v in body.items() if k not in ("data", "b64_json")})


def open_client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits)


@contextmanager
def running(module: str, preset: str, overrides: Sequence[str], threads: int) -> Iterator[tuple[str, int]]:
    """A server process; yields its URL and process id."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"OMP_NUM_THREADS": str(threads), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", module, preset, *overrides]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    assert process.stdin is not None and process.stdout is not None
    try:
        url = next((line.strip() for line in process.stdout if line.startswith("http")), None)
        if url is None:
            raise RuntimeError(f"{module} ended with {process.wait()} before it served")
        yield url, process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(_SHUTDOWN_TIMEOUT_S)
        finally:
            process.kill()


def register_adapter(preset: str, overrides: Sequence[str]) -> None:
    """Make the preset's own adapter the champion of the registry that ``overrides`` name."""
    config = load_config(preset, overrides)
    assert config.model.adapter is not None, "the presets that are measured have one"
    with tracking.run(config, "benchmark", {}) as run_id:
        version = versions.register(config, Path(config.model.adapter), run_id, {})
    versions.set_alias(config, version)
