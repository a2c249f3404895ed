"""Bytes of unknown origin as an upright RGB picture."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from components.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
#: Shortest side in pixels from which a subject can be told.
MIN_SIDE = 16
_PNG = b"\x89PNG\r\n\x1a\n"
#: Chunks of a PNG that say nothing about its pixels as they are read here; and bytes of a chunk beside its content.
_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_CHUNK_OVERHEAD = 12
_TOO_LARGE = "more pixels than data.max_pixels"
#: How pictures are turned upright, by their EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class TooLargeError(DataError):
    """More pixels than may be decoded."""


class Decoded(NamedTuple):
    """An upright RGB picture, and the mask (L, 255 on the subject) that its transparency makes; None if it has none."""

    picture: Image.Image
    mask: Image.Image | None


def decode_picture(data: bytes, max_pixels: int, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Decode ``data``: turned upright by its EXIF orientation, transparent parts white, 16-bit greys scaled to 8.

    The size that the header states is checked before a pixel is decoded.

    Args:
        formats: Pillow's names of those that are read; no other format's decoder sees the bytes.

    Raises:
        TooLargeError: more pixels than ``max_pixels``.
        DataError: not a picture, damaged, cut short, animated, too large or too small; the message is a reason
            that can be counted, without names or sizes. Whatever the bytes are, nothing else is raised.
    """
    return decode_with_alpha(data, max_pixels, formats).picture


def decode_with_alpha(data: bytes, max_pixels: int, formats: Sequence[str] = FORMATS) -> Decoded:
    """As `decode_picture`, with what the picture's transparency says about the subject.

    Raises:
        DataError: as `decode_picture`, or the picture is transparent all over.
    """
    with _reasons():
        picture = Image.open(io.BytesIO(_without_metadata(data)), formats=list(formats))
        with picture:
            _check(picture, max_pixels)
            picture.load()
            turn = _TURNS.get(_orientation(picture))
            upright = picture.transpose(turn) if turn is not None else picture
            return _decoded(upright)


def decode_mask(data: bytes, size: tuple[int, int], max_pixels: int) -> Image.Image:
    """Decode a mask (L, 255 on the subject) for a picture of ``size``.

    Raises:
        DataError: as `decode_picture`, or the mask is of another size or empty.
    """
    try:
        mask = decode_picture(data, max_pixels).convert("L").point(_binary)
    except DataError as error:
        raise DataError(f"mask: {error}") from None
    if mask.size != size:
        raise DataError("mask: not of the picture's size")
    if mask.getbbox() is None:
        raise DataError("mask: empty")
    return mask


def _without_metadata(data: bytes) -> bytes:
    """A PNG without its texts and colour profile, whose size or damage would have Pillow refuse sound pixels.

    Other formats, and a file whose chunks cannot be told apart, are returned as they are.
    """
    if not data.startswith(_PNG):
        return data
    kept, position = [_PNG], len(_PNG)
    while position < len(data):
        end = position + _CHUNK_OVERHEAD + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            return data
        if data[position + 4 : position + 8] not in _METADATA:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever Pillow raises into a reason: its decoders fail on hostile bytes in ways that no list completes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):  # the limits bound what a picture needs: too little memory is the fault of none
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(_TOO_LARGE) from None
    except UnidentifiedImageError:
        raise DataError("not a picture of a known format") from None
    except Exception:
        raise DataError("damaged or cut short") from None


def _check(picture: Image.Image, max_pixels: int) -> None:
    """Refuse, by its header, what must not or cannot be decoded."""
    if picture.width * picture.height > max_pixels:
        raise TooLargeError(_TOO_LARGE)
    if min(picture.size) < MIN_SIDE:
        raise DataError(f"shorter than {MIN_SIDE} pixels on a side")
    # Cameras append previews and depths to their JPEG files (MPO): these are no frames.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise DataError("animated: several frames")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; upright where the entries cannot be read, as the pixels are sound all the same."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as in `_reasons`
        return 1


def _decoded(picture: Image.Image) -> Decoded:
    if picture.mode == "F":
        raise DataError("floating-point pixels")
    if picture.mode.startswith("I"):
        # 16-bit greys: Pillow's own conversion would clip them.
        grey = (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255)
        return Decoded(Image.fromarray(grey.astype(np.uint8)).convert("RGB"), None)
    if not picture.has_transparency_data:
        return Decoded(picture.convert("RGB"), None)
    layered = picture.convert("RGBA")
    mask = layered.getchannel("A").point(_binary)
    if mask.getbbox() is None:
        raise DataError("transparent all over")
    flat = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    return Decoded(flat, None if mask.getextrema() == (255, 255) else mask)


def _binary(value: int) -> int:
    return 255 if value > 127 else 0
