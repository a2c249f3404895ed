"""The measured service, its keys, and requests to it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image, ImageDraw

from benchmarks.service.server_process import register_adapter, running
from benchmarks.service.soak import resident
from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.config import load_config
from components.database import open_database

#: Owners of the two keys.
OWNERS = ("ada", "bob")
TIMEOUT_S = 600.0
#: Pixel-steps a day of each key: more than any measurement takes, so that everything is charged.
QUOTA = 10**15
_GENERATOR = "ray::ServeReplica:realcustom:Generator"


@dataclass(frozen=True)
class Studio:
    """A running service.

    Args:
        process: of the program that started it.
        keys: by owner; empty if the service asks for none.
    """

    url: str
    process: int
    keys: Mapping[str, str]

    def client(self, owner: str = OWNERS[0], timeout_s: float = TIMEOUT_S) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.keys[owner]}"} if self.keys else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        return httpx.AsyncClient(base_url=self.url, timeout=timeout_s, limits=limits, headers=headers)

    def memory(self) -> int:
        """Resident bytes of the serving processes."""
        return resident(self.process)

    def generators(self) -> set[int]:
        """Process ids of the generator's replicas."""
        found = set()
        for child in psutil.Process(self.process).children(recursive=True):
            try:
                if " ".join(child.cmdline()).startswith(_GENERATOR):
                    found.add(child.pid)
            except psutil.Error:  # it has ended
                continue
        return found


def overrides(work: Path, extra: Sequence[str] = ()) -> list[str]:
    """Settings of a service that writes below ``work`` only."""
    return [
        f"registry.tracking_uri=sqlite:///{work}/mlflow.db",
        f"registry.artifacts={work}/artifacts",
        f"serving.store={work}/store",
        "serving.port=0",
        "serving.min_replicas=1",
        "serving.max_replicas=1",
        *extra,
    ]


@contextmanager
def studio(preset: str, work: Path, extra: Sequence[str] = (), database: str | None = None) -> Iterator[Studio]:
    """A service that asks for keys, with one for each of `OWNERS`.

    Args:
        work: of registry and store.
        database: URL by which the keys are written; by default that of the configuration.
    """
    settings = overrides(work, ("serving.access.keys=required", *extra))
    if not (work / "mlflow.db").exists():
        register_adapter(preset, settings)
    config = load_config(preset, settings)
    store = KeyStore(open_database(config.serving.store, database or config.serving.database))
    keys = {
        owner: store.create(owner, "hostile", [Scope.ADMIN], KeyLimits(pixel_steps_per_day=QUOTA))[1]
        for owner in OWNERS
    }
    with running("benchmarks.service.ours", preset, settings, config.serving.generator_threads) as (url, process):
        yield Studio(url, process, keys)


def robot(size: int = 256) -> Image.Image:
    """A toy robot on white."""
    picture = Image.new("RGB", (size, size), "white")
    draw, s = ImageDraw.Draw(picture), size / 256
    draw.rectangle([70 * s, 110 * s, 186 * s, 220 * s], fill=(200, 30, 30))
    draw.rectangle([90 * s, 40 * s, 166 * s, 105 * s], fill=(90, 90, 200))
    return picture


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


async def new_character(client: httpx.AsyncClient, name: str, picture: bytes | None = None) -> dict[str, Any]:
    """A stored character of one picture.

    Raises:
        httpx.HTTPStatusError: it was refused.
    """
    files = {"pictures": ("picture.png", png(robot()) if picture is None else picture)}
    answer = await client.post("/v1/characters", data={"name": name, "target_word": "robot"}, files=files)
    return answer.raise_for_status().json()


async def draw(client: httpx.AsyncClient, prompt: str = "a robot on the beach", **fields: Any) -> httpx.Response:
    return await client.post("/v1/images/generations", json={"prompt": prompt, "steps": 4} | fields)
