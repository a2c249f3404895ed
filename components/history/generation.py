"""A generation: one picture that was drawn for an owner, for a story or by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.errors import NotFoundError


class GenerationNotFoundError(NotFoundError):
    """There is no such generation, it is another owner's, or its time is over."""


@dataclass(frozen=True)
class Generation:
    """One row; ``story`` and ``panel`` are set where it is a take. Ids sort by age behind their first hyphen."""

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
    """A picture that is to be kept; ``settings`` lack the names of their characters."""

    picture: bytes
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    settings: dict[str, Any]
