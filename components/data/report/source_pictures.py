"""The report's pictures, read from the source again: the dataset itself holds latents."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

from PIL import Image

from components.data.decode import FORMATS, decode_picture
from components.data.report.page import Seen
from components.data.schema import SourceRow
from components.data.subject_image import CurateSettings, Refused, cut, lay_out, see
from components.errors import DataError


class SourcePictures:
    """Lays out the ``rows`` of a source as preparation did, and shows of refused ones what can be shown."""

    def __init__(self, rows: Iterable[SourceRow], settings: CurateSettings) -> None:
        self._subjects = {row["subject"]["id"]: row["subject"] for row in rows}
        self._settings = settings

    def row(self, id: str) -> Seen | None:
        """The pictures of a kept row; None if the source has changed since."""
        if id not in self._subjects:
            return None
        try:
            seen = see(self._subjects[id], self._settings)
        except Refused:
            return None
        view, cutout = lay_out(seen, self._settings), cut(seen, self._settings.reference_size)
        return Seen(
            Image.fromarray(view.picture),
            Image.fromarray(view.mask),
            None if view.head is None else Image.fromarray(view.head),
            Image.fromarray(cutout.pixels),
            cutout.face_box,
        )

    def picture(self, id: str) -> Image.Image | None:
        """The picture of any row, as far as it can be decoded; of an animated one, its first frame."""
        if id not in self._subjects:
            return None
        settings = self._settings
        try:
            data = settings.store.read(self._subjects[id]["image"], settings.max_bytes)
        except DataError:
            return None
        try:
            return decode_picture(data, settings.max_pixels)
        except DataError:
            return _first_frame(data, settings.max_pixels)


def _first_frame(data: bytes, max_pixels: int) -> Image.Image | None:
    """What can be seen of a picture that was refused for another reason than damage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                return picture.convert("RGB") if picture.width * picture.height <= max_pixels else None
    except Exception:  # hostile bytes fail in ways that no list completes
        return None
