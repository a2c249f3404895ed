"""A generation: one generated image in an owner's history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.errors import NotFoundError


class GenerationNotFoundError(NotFoundError):
    """There is no such generation, it belongs to another owner, or it has expired."""


@dataclass(frozen=True)
class Generation:
    """One row; ``story`` and ``panel`` are set if it is a take. Ids sort by age after their first hyphen."""

    id: str
    created: float
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    #: See `components.stories.story.Take`.
    settings: dict[str, Any]
    story: str | None = None
    panel: str | None = None


@dataclass(frozen=True)
class NewGeneration:
    """An image to save; the characters in ``settings`` have no names yet."""

    picture: bytes
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    settings: dict[str, Any]
