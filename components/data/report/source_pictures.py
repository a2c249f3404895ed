"""Pictures of the report, read from the source again, as the dataset contains latents."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

from PIL import Image

from components.data.decode import FORMATS, decode_picture
from components.data.report.page import RowPictures
from components.data.schema import SourceRow
from components.data.subject_image import CurateSettings, PictureRejected, cut_reference, load_subject, training_view
from components.errors import DataError


class SourcePictures:
    """Processes ``rows`` of a source as preparation does, and decodes rejected ones as far as possible."""

    def __init__(self, rows: Iterable[SourceRow], settings: CurateSettings) -> None:
        self._subjects = {row["subject"]["id"]: row["subject"] for row in rows}
        self._settings = settings

    def row(self, id: str) -> RowPictures | None:
        """The images of an accepted row; None if the source has changed."""
        if id not in self._subjects:
            return None
        try:
            seen = load_subject(self._subjects[id], self._settings)
        except PictureRejected:
            return None
        view, cutout = training_view(seen, self._settings), cut_reference(seen, self._settings.reference_size)
        return RowPictures(
            Image.fromarray(view.picture),
            Image.fromarray(view.mask),
            None if view.head is None else Image.fromarray(view.head),
            Image.fromarray(cutout.pixels),
            cutout.face_box,
        )

    def picture(self, id: str) -> Image.Image | None:
        """The picture of any row, if it can be decoded; the first frame of an animated one."""
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
    """The first frame of a picture, if it can be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                return picture.convert("RGB") if picture.width * picture.height <= max_pixels else None
    except Exception:  # decoders raise many types for hostile bytes
        return None
