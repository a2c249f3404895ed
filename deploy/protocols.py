"""What the service's parts say to each other. A part is whatever has these methods: a deployment, or a plain object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from torch import Tensor

from components.characters.store import Character
from components.errors import RealCustomError


class UnavailableError(RealCustomError):
    """The service cannot take the request now; the same request may succeed later."""


@dataclass(frozen=True)
class Subject:
    """A character in an order: its id, its word in the prompt, and how strongly it acts (1 is normal)."""

    character: str
    word: str
    strength: float


@dataclass(frozen=True)
class Order:
    """One request for pictures, one a seed. Everything is decided; no defaults are left."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seeds: tuple[int, ...]
    subject: Subject | None
    #: Share of the picture the subject may act on; none is the model's default.
    mask_scope: float | None


@dataclass(frozen=True)
class Drawing:
    """A picture and its influence mask (none without a subject), both PNG, and the seconds its batch took."""

    picture: bytes
    mask: bytes | None
    seconds: float


@dataclass(frozen=True)
class Delivery:
    """An order's drawings in the order of its seeds, and where the time went, in seconds."""

    drawings: list[Drawing]
    timings: dict[str, float]


class Characters(Protocol):
    """Keeps characters. Methods that take an id raise NotFoundError."""

    async def create(self, name: str, description: str, target_word: str, pictures: list[bytes]) -> Character: ...

    async def page(self, limit: int, after: str | None) -> list[Character]: ...

    async def get(self, identifier: str) -> Character: ...

    async def reference(self, identifier: str) -> bytes: ...

    async def delete(self, identifier: str) -> None: ...


class SubjectSource(Protocol):
    """Keeps characters' cut-outs and vision tokens (see `components.characters.store`)."""

    async def cut_outs(self, identifier: str, size: int) -> list[Image.Image]: ...

    async def tokens(self, identifier: str, identity: str) -> Tensor | None: ...

    async def put_tokens(self, identifier: str, identity: str, tokens: Tensor) -> None: ...


class Generator(Protocol):
    """Draws pictures.

    Raises WordError if the prompt does not hold the subject's word, UnavailableError if too many requests wait.
    """

    async def generate(self, order: Order) -> Delivery: ...
