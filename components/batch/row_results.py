"""What has become of rows, on disk: a picture, or a reason.

::

    <output>/pictures/<id>.png   drawn; the facts of it are in the file itself, so that both appear together
    <output>/failed/<id>.json    why the last run could not draw it
    <output>/begun/<id>          a byte for each time that this run began to draw it
    <output>/results.parquet     a row for every row of the table, once a run has ended
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter, ValidationError

from components.data.finished_units import appearing
from components.provenance.pictures import TEXT_KEY


@dataclass(frozen=True)
class Facts:
    """What a picture was drawn from, as its file says it.

    Args:
        mark: names everything that it depends on.
        target_words: one a subject.
        seconds: from encoding the prompt to the picture.
    """

    mark: str
    model: str
    model_version: str
    prompt: str
    seed: int
    size: str
    steps: int
    guidance_scale: float
    seconds: float
    target_words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RowResults:
    """The output directory. Every node of a cluster must see it at the same path."""

    root: Path

    def picture(self, identifier: str) -> Path:
        return self.root / "pictures" / f"{identifier}.png"

    def make(self) -> None:
        """Make the folders, and forget what an earlier run could not draw: it is tried again."""
        for name in ("pictures", "failed", "begun"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for file in (self.root / "pictures").glob(".*.partial"):
            file.unlink(missing_ok=True)
        for name in ("failed", "begun"):
            for file in (self.root / name).iterdir():
                file.unlink(missing_ok=True)

    def save(self, identifier: str, file: bytes) -> None:
        """Put a picture there, a PNG that says its `Facts`."""
        with appearing(self.picture(identifier)) as partial:
            partial.write_bytes(file)
        self._begun(identifier).unlink(missing_ok=True)

    def facts(self, identifier: str) -> Facts | None:
        """What the picture says of itself; None if there is none, or one that is not ours."""
        try:
            with Image.open(self.picture(identifier), formats=("PNG",)) as picture:
                text = picture.info.get(TEXT_KEY, "")
        except (FileNotFoundError, UnidentifiedImageError):
            return None
        try:
            return TypeAdapter(Facts).validate_json(text)
        except ValidationError:
            return None

    def has(self, identifier: str, mark: str) -> bool:
        """Whether the picture is there and was drawn from the same."""
        facts = self.facts(identifier)
        return facts is not None and facts.mark == mark

    def fail(self, identifier: str, reason: str) -> None:
        """Note why a row cannot be drawn; a picture of what it was before goes."""
        self.picture(identifier).unlink(missing_ok=True)
        with appearing(self._failure(identifier)) as partial:
            partial.write_text(json.dumps(reason))
        self._begun(identifier).unlink(missing_ok=True)

    def reason(self, identifier: str) -> str | None:
        """Why this run could not draw the row, if it could not."""
        try:
            return str(json.loads(self._failure(identifier).read_text()))
        except FileNotFoundError:
            return None

    def begun(self, identifier: str) -> int:
        """How often this run has begun to draw the row."""
        file = self._begun(identifier)
        return file.stat().st_size if file.exists() else 0

    def begin(self, identifier: str) -> None:
        with self._begun(identifier).open("ab") as stream:
            stream.write(b".")

    def _failure(self, identifier: str) -> Path:
        return self.root / "failed" / f"{identifier}.json"

    def _begun(self, identifier: str) -> Path:
        return self.root / "begun" / identifier


def result_row(identifier: str, album: RowResults, fault: str | None, mark: str | None) -> dict[str, Any] | None:
    """The row of ``results.parquet`` of a row of the table; None if nothing has become of it.

    Args:
        fault: what is wrong with it in the table.
        mark: of what it asks for, if nothing is.
    """
    reason = fault or album.reason(identifier)
    if reason is None and (mark is None or not album.has(identifier, mark)):
        return None
    if reason is not None:
        return {"id": identifier, "status": "failed", "reason": reason}
    facts = album.facts(identifier)
    assert facts is not None, "which has just been read"
    picture = str(album.picture(identifier).relative_to(album.root))
    return {"id": identifier, "status": "done", "picture": picture} | asdict(facts)
