"""Pictures whose pixels are sound are read, whatever is wrong with their metadata."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from components.data.decode import decode_picture, decode_with_alpha
from components.errors import DataError

_LIMIT = 1_000_000


def _png(picture: Image.Image, info: PngImagePlugin.PngInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _with_chunk(data: bytes, kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """``data`` with a chunk after its header."""
    crc = zlib.crc32(kind + content) if checksum is None else checksum
    chunk = len(content).to_bytes(4, "big") + kind + content + crc.to_bytes(4, "big")
    return data[:33] + chunk + data[33:]


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))


def test_long_compressed_text_is_dropped(picture: Image.Image) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("notes", "x" * 1_300_000, zip=True)
    info.add_itxt("more", "y" * 2_000_000, zip=True)
    assert np.array_equal(decode_picture(_png(picture, info), _LIMIT), picture)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"iCCP", b"huge\0\0" + zlib.compress(b"\0" * 3_000_000)),
        (b"iCCP", b"cut\0\0" + zlib.compress(b"\0" * 3_000)[:9]),
        (b"zTXt", b"cut\0\0" + zlib.compress(b"a" * 3_000)[:9]),
        (b"zTXt", b"method\0\7"),
        (b"iTXt", b"\xff\xfe"),
    ],
)
@pytest.mark.parametrize("checksum", [None, 0])
def test_damaged_metadata_is_dropped(picture: Image.Image, kind: bytes, content: bytes, checksum: int | None) -> None:
    data = _with_chunk(_png(picture), kind, content, checksum)
    assert np.array_equal(decode_picture(data, _LIMIT), picture)


def test_what_concerns_the_pixels_is_kept() -> None:
    """Transparency of a palette, and frames of an animation."""
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(1, (5, 5, 15, 15))
    palette.info["transparency"] = 0
    assert decode_with_alpha(_png(palette), _LIMIT).mask is not None
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green")]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="animated"):
        decode_picture(buffer.getvalue(), _LIMIT)


def test_a_file_that_is_cut_short_is_still_refused(picture: Image.Image) -> None:
    data = _png(picture)
    with pytest.raises(DataError, match="damaged or cut short"):
        decode_picture(data[: len(data) // 2], _LIMIT)
