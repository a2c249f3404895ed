"""What tests of characters need: empty stores of every kind, and pictures that are cheap to tell apart."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from components.blobs import open_blobs
from components.characters.advice import advise
from components.characters.character import Character, Reference
from components.characters.store import CharacterStore
from components.config.section import Place


@pytest.fixture(params=["directory", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place for files: a directory, or below a URL."""
    yield from empty(request.param, tmp_path)


def empty(kind: str, folder: Path) -> Iterator[Place]:
    """An empty place of a kind, as long as somebody waits for the next."""
    if kind == "directory":
        yield folder / "store"
        return
    url = f"memory://characters-{secrets.token_hex(4)}/store"
    yield url
    open_blobs(url).clear("")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path / 'rows.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(place: Place, database: str) -> CharacterStore:
    return CharacterStore(place, database)


def reference(color: str = "red", face: tuple[int, int, int, int] | None = None) -> Reference:
    """A coloured square on green."""
    picture, mask = Image.new("RGB", (60, 40), "green"), Image.new("L", (60, 40))
    ImageDraw.Draw(picture).rectangle((20, 10, 39, 29), fill=color)
    ImageDraw.Draw(mask).rectangle((20, 10, 39, 29), fill=255)
    return Reference(picture, mask, face, advise(picture, mask, 128, None if face is None else True))


def add(store: CharacterStore, name: str = "Rob", *references: Reference, owner: str = "") -> Character:
    return store.create(name, "a red robot", "robot", references or [reference()], owner)


def color(shown: Image.Image) -> tuple[int, ...]:
    """What is in the middle."""
    found = shown.getpixel((shown.width // 2, shown.height // 2))
    assert isinstance(found, tuple)
    return found
