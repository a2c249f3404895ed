"""Storage of generated images and their scores. Files are written atomically, so existing ones are complete."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from components.data.decode import decode_picture
from components.errors import ArtifactError, DataError
from components.evaluation.dreambench.protocol import ImageSpec

#: Maximum pixels of a generated image.
_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class ImageStore:
    """Images below ``root`` and their rows of scores below ``root/scores``; all nodes share the folder."""

    root: Path
    #: Folder name of the scores, which depends on the encoders.
    scores: str

    def has_picture(self, spec: ImageSpec) -> bool:
        return self.picture_file(spec).exists()

    def picture_file(self, spec: ImageSpec) -> Path:
        return self.root / "pictures" / f"{spec.name}.png"

    def save(self, spec: ImageSpec, picture: Image.Image, mask: Image.Image) -> None:
        """Store the influence ``mask`` (L), then ``picture``, whose existence implies both."""
        self._save_png(mask, self._mask_file(spec))
        self._save_png(picture, self.picture_file(spec))

    def picture(self, spec: ImageSpec) -> Image.Image:
        """The generated image (RGB)."""
        return self._open(self.picture_file(spec))

    def mask(self, spec: ImageSpec) -> Image.Image:
        """The influence mask (L)."""
        return self._open(self._mask_file(spec)).convert("L")

    def has_row(self, name: str) -> bool:
        return self._row_file(name).exists()

    def save_row(self, name: str, row: dict[str, float | None]) -> None:
        """Store the scores of the image (or subject) ``name``."""
        file = self._row_file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(file)
        partial.write_text(json.dumps(row))
        partial.replace(file)

    def row(self, name: str) -> dict[str, float | None]:
        """The scores of the image (or subject) ``name``."""
        file = self._row_file(name)
        try:
            return json.loads(file.read_text())  # type: ignore[no-any-return]
        except (OSError, ValueError):
            raise ArtifactError(f"{file} is missing or damaged: delete it and evaluate again") from None

    def _row_file(self, name: str) -> Path:
        return self.root / "scores" / self.scores / f"{name}.json"

    def _mask_file(self, spec: ImageSpec) -> Path:
        return self.root / "masks" / f"{spec.name}.png"

    def _save_png(self, picture: Image.Image, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(file)
        picture.save(partial, "PNG")
        partial.replace(file)

    def _open(self, file: Path) -> Image.Image:
        try:
            return decode_picture(file.read_bytes(), _MAX_PIXELS)
        except (OSError, DataError) as error:
            raise ArtifactError(f"{file}: {error}; delete it and evaluate again") from None


def _partial(file: Path) -> Path:
    """A hidden temporary name beside ``file``, unique for each process."""
    return file.with_name(f".{file.name}.{os.uname().nodename}.{os.getpid()}.partial")
