"""Responses of the service as Python objects. Unknown fields of later releases are ignored."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self


class Response:
    """A dataclass that is built from the known fields of a JSON object."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        known = {each.name for each in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in body.items() if name in known})


@dataclass(frozen=True)
class CharacterPicture(Response):
    """A picture of a character, with its size in pixels."""

    id: str
    width: int
    height: int


@dataclass(frozen=True)
class Character(Response):
    """A stored character."""

    id: str
    name: str
    #: The word that names it in a prompt.
    target_word: str
    description: str = ""
    #: Seconds since 1970.
    created: int = 0
    #: Advice on improving its pictures.
    advice: list[str] = field(default_factory=list)
    #: Path of its first cut-out.
    reference: str = ""
    pictures: tuple[CharacterPicture, ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        pictures = tuple(map(CharacterPicture.of, body.get("pictures", ())))
        return super().of({**body, "pictures": pictures})


@dataclass(frozen=True)
class Picture:
    """A generated image: the bytes of its file, and its subjects' influence masks as PNG, if requested."""

    data: bytes = field(repr=False)
    seed: int
    masks: tuple[bytes, ...] = field(default=(), repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the file."""
        Path(path).write_bytes(self.data)
        return Path(path)


@dataclass(frozen=True)
class Pictures:
    """The response to a request for images."""

    pictures: tuple[Picture, ...]
    model: str
    model_version: str
    #: The prompt that was used, if it differs from the one that was sent.
    revised_prompt: str | None
    target_words: list[str]
    #: Seconds.
    timings: dict[str, float]
    #: Notes on parameters that had no effect.
    notes: list[str]

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Pictures:
        return cls(
            pictures=tuple(_picture(each, body["seed"] + index) for index, each in enumerate(body["data"])),
            model=body["model"],
            model_version=body["model_version"],
            revised_prompt=body["data"][0].get("revised_prompt"),
            target_words=body["target_words"],
            timings=body["timings"],
            notes=body["notes"],
        )


@dataclass(frozen=True)
class Job(Response):
    """A job; ``status`` is queued, running, done, failed or cancelled."""

    id: str
    status: str
    attempts: int = 0
    #: ``step`` of ``total`` steps of all pictures, and ``pictures_done`` of ``pictures``.
    progress: dict[str, int] = field(default_factory=dict)
    #: Why it failed: ``message``, ``param`` and ``code``.
    error: dict[str, Any] | None = None
    #: Present in a response about this job alone, once it is done.
    pictures: Pictures | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ("queued", "running")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        result = body.get("result")
        return super().of({**body, "pictures": None if result is None else Pictures.of(result)})


@dataclass(frozen=True)
class JobEvent:
    """An event: ``progress``, ``done``, ``failed``, ``cancelled`` with the job, or a ``preview`` of an image."""

    kind: str
    job: Job | None = None
    #: Number of the image, its step, and a small PNG.
    picture: int | None = None
    step: int | None = None
    png: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, kind: str, body: Mapping[str, Any]) -> JobEvent:
        if kind == "preview":
            png = base64.b64decode(body["b64_json"])
            return cls(kind, picture=body["picture"], step=body["step"], png=png)
        return cls(kind, None if kind == "deleted" else Job.of(body))


@dataclass(frozen=True)
class DayUsage(Response):
    """What was used on a day (UTC)."""

    #: ``YYYY-MM-DD``.
    date: str
    requests: int = 0
    #: Width x height x steps of the generated images.
    pixel_steps: int = 0
    images: int = 0
    #: In reports of all owners.
    owner: str = ""


@dataclass(frozen=True)
class Usage:
    """Days with any usage, newest first; numbers of what is stored now, among them ``bytes``, and their limits."""

    days: tuple[DayUsage, ...]
    storage: dict[str, int]
    limits: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Usage:
        return cls(tuple(map(DayUsage.of, body["data"])), body["storage"], body.get("limits", {}))


def _picture(body: Mapping[str, Any], seed: int) -> Picture:
    masks = tuple(base64.b64decode(mask) for mask in body.get("masks_b64_json") or ())
    return Picture(base64.b64decode(body["b64_json"]), seed, masks)
