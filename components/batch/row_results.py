"""Results of rows on disk: an image, or the reason of a failure.

::

    <output>/pictures/<id>.png   the image, with its `PictureFacts` in the same file
    <output>/failed/<id>.json    why the last run failed to render it
    <output>/begun/<id>          one byte for each time that this run started it
    <output>/results.parquet     one row for every row of the table, written at the end of a run
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter, ValidationError

from components.data.finished_units import atomic_write
from components.provenance.image_files import TEXT_KEY


@dataclass(frozen=True)
class PictureFacts:
    """Parameters of an image, stored in its file.

    Args:
        mark: fingerprint of everything that the image depends on.
        target_words: one for each subject.
        seconds: from encoding the prompt to the finished image.
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
        """Create the folders, and remove the failures of an earlier run, so that their rows are tried again."""
        for name in ("pictures", "failed", "begun"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for file in (self.root / "pictures").glob(".*.partial"):
            file.unlink(missing_ok=True)
        for name in ("failed", "begun"):
            for file in (self.root / name).iterdir():
                file.unlink(missing_ok=True)

    def save(self, identifier: str, file: bytes) -> None:
        """Store a PNG that contains its `PictureFacts`."""
        with atomic_write(self.picture(identifier)) as partial:
            partial.write_bytes(file)
        self._begun(identifier).unlink(missing_ok=True)

    def facts(self, identifier: str) -> PictureFacts | None:
        """The facts stored in the row's image; None if it is missing or was not written by this program."""
        try:
            with Image.open(self.picture(identifier), formats=("PNG",)) as picture:
                text = picture.info.get(TEXT_KEY, "")
        except (FileNotFoundError, UnidentifiedImageError):
            return None
        try:
            return TypeAdapter(PictureFacts).validate_json(text)
        except ValidationError:
            return None

    def has(self, identifier: str, mark: str) -> bool:
        """Whether the image exists and has the same mark."""
        facts = self.facts(identifier)
        return facts is not None and facts.mark == mark

    def fail(self, identifier: str, reason: str) -> None:
        """Store why a row failed, and remove its outdated image."""
        self.picture(identifier).unlink(missing_ok=True)
        with atomic_write(self._failure(identifier)) as partial:
            partial.write_text(json.dumps(reason))
        self._begun(identifier).unlink(missing_ok=True)

    def reason(self, identifier: str) -> str | None:
        """Why this run failed to render the row; None if it has not failed."""
        try:
            return str(json.loads(self._failure(identifier).read_text()))
        except FileNotFoundError:
            return None

    def begun(self, identifier: str) -> int:
        """How often this run has started the row."""
        file = self._begun(identifier)
        return file.stat().st_size if file.exists() else 0

    def begin(self, identifier: str) -> None:
        with self._begun(identifier).open("ab") as stream:
            stream.write(b".")

    def _failure(self, identifier: str) -> Path:
        return self.root / "failed" / f"{identifier}.json"

    def _begun(self, identifier: str) -> Path:
        return self.root / "begun" / identifier


def result_row(identifier: str, results: RowResults, fault: str | None, mark: str | None) -> dict[str, Any] | None:
    """The row of ``results.parquet`` for a row of the table; None if it has no result.

    Args:
        fault: why the row is invalid, if it is.
        mark: the expected mark of a valid row.
    """
    reason = fault or results.reason(identifier)
    if reason is None and (mark is None or not results.has(identifier, mark)):
        return None
    if reason is not None:
        return {"id": identifier, "status": "failed", "reason": reason}
    facts = results.facts(identifier)
    assert facts is not None, "which has just been read"
    picture = str(results.picture(identifier).relative_to(results.root))
    return {"id": identifier, "status": "done", "picture": picture} | asdict(facts)
