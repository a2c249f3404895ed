"""Pictures that strangers send: which are taken, and where the checks of what they show come in."""

from __future__ import annotations

from PIL import Image

from components.data.picture import TooLargeError, decode_picture
from components.errors import DataError

#: Pillow's names of the formats that are taken. No other decoder sees what was sent.
FORMATS = ("PNG", "JPEG", "WEBP")


def read_upload(data: bytes, field: str, max_pixels: int) -> Image.Image:
    """An uploaded picture, upright and RGB.

    Args:
        field: where in the request it was, for the error.
        max_pixels: held against the header, before a pixel is decoded.

    Raises:
        DataError: it is no still PNG, JPEG or WebP, is damaged, too large or too small.
    """
    try:
        return decode_picture(data, max_pixels, FORMATS)
    except TooLargeError:
        raise DataError(f"{field}: more than {max_pixels:,} pixels") from None
    except DataError as error:
        raise DataError(f"{field}: {error}; send a still PNG, JPEG or WebP") from None
