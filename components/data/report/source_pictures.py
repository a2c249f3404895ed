"""Pictures of the report, read from the source again, as the dataset contains latents."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection

from PIL import Image

from components.data.decode import FORMATS, decode_picture
from components.data.report.page import RowPictures
from components.data.row_index import RowIndex
from components.data.schema import AnnotatedSubject
from components.data.subject_image import CurateSettings, PictureRejected, cut_reference, load_subject, training_view
from components.errors import DataError


class SourcePictures:
    """Processes rows of a source as preparation does, and decodes rejected ones as far as possible.

    Args:
        without: ids of rows whose pictures must not be read.
    """

    def __init__(self, index: RowIndex, settings: CurateSettings, without: Collection[str] = ()) -> None:
        self._index, self._settings, self._without = index, settings, without

    def row(self, id: str) -> RowPictures | None:
        """The images of an accepted row; None if the source has changed."""
        subject = self._subject(id)
        if subject is None:
            return None
        try:
            seen = load_subject(subject, self._settings)
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
        subject = self._subject(id)
        if subject is None:
            return None
        settings = self._settings
        try:
            data = settings.store.read(subject["image"], settings.max_bytes)
        except DataError:
            return None
        try:
            return decode_picture(data, settings.max_pixels)
        except DataError:
            return _first_frame(data, settings.max_pixels)

    def _subject(self, id: str) -> AnnotatedSubject | None:
        place = None if id in self._without else self._index.find(id)
        return None if place is None else self._index.rows[place]["subject"]


def _first_frame(data: bytes, max_pixels: int) -> Image.Image | None:
    """The first frame of a picture, if it can be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                return picture.convert("RGB") if picture.width * picture.height <= max_pixels else None
    except Exception:  # decoders raise many types for hostile bytes
        return None
