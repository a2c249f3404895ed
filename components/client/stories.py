"""Client of the stories: create and edit panels, generate their images, export books."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from components.client.fields import Control, PictureLike, control_json, files
from components.client.pages import pages
from components.client.responses import Response
from components.client.transport import Transport

ExportFormat = Literal["pdf", "cbz", "zip", "png", "story"]


@dataclass(frozen=True)
class Take(Response):
    """An image generated for a panel, and the inputs of its generation."""

    id: str
    #: Path of the PNG.
    picture: str
    width: int
    height: int
    seed: int
    model: str = ""
    model_version: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel(Response):
    """A panel of a story; ``takes`` are newest first, and ``chosen`` is the id of the one that is shown."""

    id: str
    prompt: str
    caption: str = ""
    chosen: str | None = None
    #: The chosen take was generated with other values, or no take is chosen.
    dirty: bool = True
    hidden: bool = False
    takes: tuple[Take, ...] = ()
    #: The unfinished job: ``id``, ``status``, ``step`` of ``total``.
    job: dict[str, Any] | None = None
    #: Why the last generation failed: ``message``, ``param`` and ``code``.
    error: dict[str, Any] | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        return super().of({**body, "takes": tuple(map(Take.of, body["takes"]))})


@dataclass(frozen=True)
class Story(Response):
    """A story; ``panels`` are left out of lists."""

    id: str
    title: str
    style: str = ""
    panel_count: int = 0
    #: Seconds since 1970.
    created: int = 0
    etag: str = ""
    panels: tuple[Panel, ...] = ()
    #: What could not be imported.
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        panels = tuple(map(Panel.of, body.get("panels", ())))
        return super().of({**body, "panels": panels, "notes": tuple(body.get("notes", ()))})


@dataclass(frozen=True)
class Drawing:
    """The submitted jobs as (id of the panel, id of the job), and the skipped panels with the reasons."""

    jobs: list[tuple[str, str]]
    skipped: dict[str, str]


class Stories:
    """The stories of the caller."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, title: str, script: str = "", style: str = "", **fields: Any) -> Story:
        """Create a story from a script, one panel per line; lines may mention characters as ``@name``."""
        body = {"title": title, "script": script, "style": style, **fields}
        return Story.of(self._transport.json("POST", "/v1/stories", _once(), json=body))

    def get(self, identifier: str) -> Story:
        return Story.of(self._transport.json("GET", f"/v1/stories/{identifier}"))

    def list(self) -> Iterator[Story]:
        """All of them, newest first, without their panels."""
        return map(Story.of, pages(self._transport, "/v1/stories"))

    def change(self, identifier: str, **fields: Any) -> Story:
        """Change the title, style, language or pages."""
        return Story.of(self._transport.json("PATCH", f"/v1/stories/{identifier}", json=fields))

    def delete(self, identifier: str) -> None:
        """Delete a story with all of its pictures."""
        self._transport.json("DELETE", f"/v1/stories/{identifier}")

    def add_panels(
        self, identifier: str, panels: Sequence[dict[str, Any]], after: str | None = None
    ) -> Sequence[Panel]:
        """Add panels at the end, or after the panel ``after``."""
        body = {"panels": list(panels), "after": after}
        answer = self._transport.json("POST", f"/v1/stories/{identifier}/panels", _once(), json=body)
        return [Panel.of(panel) for panel in answer["data"]]

    def change_panel(self, identifier: str, panel: str, **fields: Any) -> Panel:
        """Change the given fields of a panel."""
        return Panel.of(self._transport.json("PATCH", f"/v1/stories/{identifier}/panels/{panel}", json=fields))

    def delete_panel(self, identifier: str, panel: str) -> None:
        self._transport.json("DELETE", f"/v1/stories/{identifier}/panels/{panel}")

    def order(self, identifier: str, panels: Sequence[str]) -> Story:
        """Reorder all panels."""
        body = {"panels": list(panels)}
        return Story.of(self._transport.json("PUT", f"/v1/stories/{identifier}/order", json=body))

    def draw(
        self, identifier: str, panels: Sequence[str] | None = None, n: int = 1, control: Control | None = None
    ) -> Drawing:
        """Submit jobs for ``n`` images of each panel; by default of those that are dirty and not hidden.

        Args:
            control: guides the composition of one panel, whose id is given.
        """
        body: dict[str, Any] = {"n": n} | ({} if panels is None else {"panels": list(panels)})
        if control is not None:
            body["control"] = control_json(control)
        answer = self._transport.json("POST", f"/v1/stories/{identifier}/draw", _once(), json=body)
        jobs = [(each["panel"], each["job"]) for each in answer["data"]]
        return Drawing(jobs, {each["panel"]: each["reason"] for each in answer["skipped"]})

    def redraw(
        self,
        identifier: str,
        take: Take | str,
        mask: PictureLike | None = None,
        strength: float = 0.8,
        prompt: str | None = None,
        n: int = 1,
    ) -> Drawing:
        """Submit jobs that redraw a take, or its part where ``mask``, an image of its size, is transparent.

        Args:
            strength: share of the steps that are made: the smaller it is, the more of the take stays.
            prompt: what the part shows, with the characters' words; by default the take's own prompt.
            n: number of variations, each a take of its own.
        """
        body: dict[str, Any] = {"strength": strength, "n": n}
        if mask is not None:
            (_, (_, content)), *_ = files("mask", mask)
            body["mask"] = base64.b64encode(content).decode("ascii")
        if prompt is not None:
            body["prompt"] = prompt
        chosen = take if isinstance(take, str) else take.id
        path = f"/v1/stories/{identifier}/takes/{chosen}/redraw"
        answer = self._transport.json("POST", path, _once(), json=body)
        jobs = [(each["panel"], each["job"]) for each in answer["data"]]
        return Drawing(jobs, {each["panel"]: each["reason"] for each in answer["skipped"]})

    def wait(self, identifier: str, timeout_s: float | None = None, look_every_s: float = 1.0) -> Iterator[Story]:
        """Yield the story every ``look_every_s`` seconds until it has no unfinished job.

        Raises:
            TimeoutError: that takes longer than ``timeout_s`` seconds.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            story = self.get(identifier)
            yield story
            if not any(panel.job for panel in story.panels):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("the story is still being drawn")
            time.sleep(look_every_s)

    def picture(self, take: Take) -> bytes:
        """A take's PNG."""
        return self._transport.bytes("GET", take.picture)

    def export(self, identifier: str, kind: ExportFormat) -> bytes:
        """The story as a file: ``pdf``, ``cbz``, ``zip`` of its images, a tall ``png``, or ``story`` to import."""
        return self._transport.bytes("GET", f"/v1/stories/{identifier}/export", params={"format": kind})

    def import_file(self, file: PictureLike) -> Story:
        """Import a file of ``export(…, "story")``; ``notes`` say what could not be imported.

        Raises:
            DataError: the file cannot be read.
        """
        sent = files("file", file)
        return Story.of(self._transport.json("POST", "/v1/stories/import", _once(), files=sent))


def export_format(path: Path) -> ExportFormat | None:
    """The export format for a file's name; a ZIP whose name contains ``pictures`` is one of images."""
    if path.suffix.lower() == ".pdf":
        return "pdf"
    if path.suffix.lower() == ".cbz":
        return "cbz"
    if path.suffix.lower() == ".png":
        return "png"
    if path.suffix.lower() == ".zip":
        return "zip" if "picture" in path.stem.lower() else "story"
    return None


def _once() -> dict[str, str]:
    """What makes a request that is sent again the same request."""
    return {"Idempotency-Key": uuid.uuid4().hex}
