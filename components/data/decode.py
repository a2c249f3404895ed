"""Decoding of untrusted bytes into an upright RGB picture."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from components.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
#: Minimum side in pixels.
MIN_SIDE = 16
_PNG = b"\x89PNG\r\n\x1a\n"
#: Chunks of a PNG that say nothing about its pixels as they are read here; and bytes of a chunk beside its content.
_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_CHUNK_OVERHEAD = 12
_TOO_LARGE = "more pixels than data.max_pixels"
#: Transpositions by EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


#: Of the turns that are not their own inverse.
_INVERSE = {
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
}


class TooLargeError(DataError):
    """The picture has more pixels than allowed."""


class Decoded(NamedTuple):
    """An upright RGB picture, and the mask (L, 255 on the subject) of its alpha channel; None if it has none."""

    picture: Image.Image
    mask: Image.Image | None


def decode_picture(data: bytes, max_pixels: int, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Decode ``data``: rotated by its EXIF orientation, transparent parts white, 16-bit greys scaled to 8.

    The size in the header is checked before pixels are decoded.

    Args:
        formats: Pillow's names of the allowed formats; no other decoder is used.

    Raises:
        TooLargeError: more pixels than ``max_pixels``.
        DataError: not a picture, damaged, cut short, animated, too large or too small; the message is the
            reason of a reject, without names or sizes. No other exception is raised, whatever the bytes are.
    """
    return decode_with_alpha(data, max_pixels, formats).picture


def decode_with_alpha(data: bytes, max_pixels: int, formats: Sequence[str] = FORMATS) -> Decoded:
    """As `decode_picture`, with the mask of the alpha channel.

    Raises:
        DataError: as `decode_picture`, or the picture is fully transparent.
    """
    with _reasons():
        picture = Image.open(io.BytesIO(_without_metadata(data)), formats=list(formats))
        with picture:
            _check(picture, max_pixels)
            picture.load()
            return _decoded(turned(picture, upright_turn(picture)))


def stated_size(data: bytes, max_pixels: int, formats: Sequence[str] = FORMATS) -> tuple[int, int]:
    """The sides that a picture's header states, before its pixels are decoded or turned.

    Raises:
        DataError: as `decode_picture`, as far as the header shows it.
    """
    with _reasons(), Image.open(io.BytesIO(_without_metadata(data)), formats=list(formats)) as picture:
        _check(picture, max_pixels)
        return picture.size


def upright_turn(picture: Image.Image) -> Image.Transpose | None:
    """How a picture file is turned to be upright, by its EXIF orientation; None if it is upright."""
    return _TURNS.get(_orientation(picture))


def turn_back(picture: Image.Image) -> Image.Transpose | None:
    """The inverse of `upright_turn`."""
    turn = upright_turn(picture)
    return _INVERSE.get(turn, turn) if turn is not None else None


def turned(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return picture if turn is None else picture.transpose(turn)


def reads_plainly(data: bytes) -> bool:
    """Whether the decoded picture has the very pixels of the file, perhaps turned: RGB, opaque, nothing left out."""
    if _without_metadata(data) != data:
        return False
    with Image.open(io.BytesIO(data)) as picture:
        return picture.mode == "RGB" and "transparency" not in picture.info


def decode_mask(data: bytes, size: tuple[int, int], max_pixels: int, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Decode a mask (L, 255 on the subject) for a picture of ``size``. What is transparent is not the subject.

    Raises:
        DataError: as `decode_picture`, or the mask is of another size or empty.
    """
    try:
        decoded = decode_with_alpha(data, max_pixels, formats)
    except DataError as error:
        raise DataError(f"mask: {error}") from None
    mask = decoded.picture.convert("L").point(_binary)
    if decoded.mask is not None:
        mask = ImageChops.darker(mask, decoded.mask)
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
    """Turn any error of Pillow into a `DataError`: its decoders raise many types for hostile bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):  # sizes are limited: running out of memory is not the picture's fault
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(_TOO_LARGE) from None
    except UnidentifiedImageError:
        raise DataError("not a picture of a known format") from None
    except Exception:
        raise DataError("damaged or cut short") from None


def _check(picture: Image.Image, max_pixels: int) -> None:
    """Reject, by its header, a picture that must not or cannot be decoded."""
    if picture.width * picture.height > max_pixels:
        raise TooLargeError(_TOO_LARGE)
    if min(picture.size) < MIN_SIDE:
        raise DataError(f"shorter than {MIN_SIDE} pixels on a side")
    # Cameras append previews and depth maps to JPEG files (MPO), which are no animation frames.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise DataError("animated: several frames")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 if the EXIF data are unreadable."""
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
