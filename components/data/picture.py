"""Bytes of unknown origin as an upright RGB picture."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from components.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
#: Shortest side in pixels from which a subject can be told.
MIN_SIDE = 16
#: What Pillow raises for files that are damaged on purpose or by accident.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def decode_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Decode ``data``: turned upright by its EXIF orientation, transparent parts white, 16-bit greys scaled to 8.

    The size that the header states is checked before a pixel is decoded.

    Raises:
        DataError: not a picture, damaged, cut short, animated, too large or too small; the message is a reason
            that can be counted, without names or sizes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError("more pixels than data.max_pixels") from None
    except UnidentifiedImageError:
        raise DataError("not a picture of a known format") from None
    except _DAMAGED:
        raise DataError("damaged or cut short") from None
    with picture:
        if picture.width * picture.height > max_pixels:
            raise DataError("more pixels than data.max_pixels")
        if min(picture.size) < MIN_SIDE:
            raise DataError(f"shorter than {MIN_SIDE} pixels on a side")
        try:
            if getattr(picture, "n_frames", 1) > 1:
                raise DataError("animated: several frames")
            picture.load()
            return _rgb(ImageOps.exif_transpose(picture))
        except _DAMAGED:
            raise DataError("damaged or cut short") from None


def decode_mask(data: bytes, size: tuple[int, int], max_pixels: int) -> Image.Image:
    """Decode a mask (L, 255 on the subject) for a picture of ``size``.

    Raises:
        DataError: as `decode_picture`, or the mask is of another size or empty.
    """
    try:
        mask = decode_picture(data, max_pixels).convert("L").point(lambda value: 255 if value > 127 else 0)
    except DataError as error:
        raise DataError(f"mask: {error}") from None
    if mask.size != size:
        raise DataError("mask: not of the picture's size")
    if mask.getbbox() is None:
        raise DataError("mask: empty")
    return mask


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        # 16-bit greys: Pillow's own conversion would clip them.
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    opaque = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
