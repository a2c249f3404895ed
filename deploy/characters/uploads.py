"""Decodes uploaded images, which are untrusted, and applies the content policy to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageChops

from components.config import ServingConfig
from components.content import ContentCheck, ContentError, input_check
from components.data.decode import Decoded, TooLargeError, decode_mask, decode_with_alpha, stated_size
from components.errors import DataError
from deploy.interfaces.errors import StatedRegionError

#: Pillow's names of the accepted formats. No other decoder is run on uploaded bytes.
FORMATS = ("PNG", "JPEG", "WEBP")


class UploadReader:
    """Decodes uploaded bytes; thread-safe.

    Args:
        check: the check that uploads must pass; by default the configured policy's.
    """

    def __init__(self, config: ServingConfig, check: ContentCheck | None = None) -> None:
        self._max_pixels = config.max_upload_pixels
        self._check = check or input_check(config.content)

    def __call__(self, data: bytes, field: str) -> Decoded:
        """The image in RGB, rotated as its EXIF data say, with the mask of its alpha channel.

        Args:
            field: its place in the request, for error messages.

        Raises:
            DataError: it is not a still PNG, JPEG or WebP, is damaged or too small, or its header states too many
                pixels.
            ContentError: the content policy refuses it.
        """
        decoded = self._decode(data, field)
        if self._check is not None and not self._check(decoded.picture):
            raise ContentError(f"{field}: refused by the content policy of this service")
        return decoded

    def size(self, data: bytes, field: str) -> tuple[int, int]:
        """The sides that the header of an image states; pixels are not decoded.

        Raises:
            DataError: as for the image, as far as the header shows it.
        """
        with self._told(field):
            return stated_size(data, self._max_pixels, FORMATS)

    def mask(self, data: bytes, size: tuple[int, int], field: str) -> Image.Image:
        """The mask (L, 255 on the subject) of an image of ``size``.

        Raises:
            StatedRegionError: it cannot be read, or is of another size or empty.
        """
        try:
            return decode_mask(data, size, self._max_pixels, FORMATS)
        except DataError as error:
            reason = str(error).removeprefix("mask: ")
            remedy = "send a still PNG of the upright picture's size, white where the subject is, or null"
            raise StatedRegionError(f"{field}: {reason}; {remedy}") from None

    def redraw_mask(self, data: bytes, size: tuple[int, int], field: str) -> Image.Image:
        """The mask (L, 255 where it is transparent) of an image of ``size`` that is redrawn in part.

        Raises:
            StatedRegionError: it cannot be read, is of another size, or nothing in it is transparent.
        """
        remedy = "send a PNG of the picture's size, transparent where it is to be redrawn"
        try:
            alpha = decode_with_alpha(data, self._max_pixels, FORMATS).mask
        except DataError as error:
            raise StatedRegionError(f"{field}: {error}; {remedy}") from None
        if alpha is None:
            raise StatedRegionError(f"{field}: nothing is transparent; {remedy}")
        if alpha.size != size:
            raise StatedRegionError(f"{field}: not of the picture's size, {size[0]}x{size[1]}; {remedy}")
        return ImageChops.invert(alpha)

    def _decode(self, data: bytes, field: str) -> Decoded:
        with self._told(field):
            return decode_with_alpha(data, self._max_pixels, FORMATS)

    @contextmanager
    def _told(self, field: str) -> Iterator[None]:
        """Errors name ``field`` and the remedy."""
        try:
            yield
        except TooLargeError:
            raise DataError(f"{field}: more than {self._max_pixels:,} pixels") from None
        except DataError as error:
            raise DataError(f"{field}: {error}; send a still PNG, JPEG or WebP") from None
