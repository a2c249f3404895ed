"""Hostile bytes: whatever they are, a picture comes out or a `DataError` does, and memory stays bounded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from components.data.decode import MIN_SIDE, decode_mask, decode_picture, decode_with_alpha
from components.errors import DataError

PIXELS = 1_000_000
SIGNATURE = b"\x89PNG\r\n\x1a\n"
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def exif(orientation: int = 6) -> Image.Exif:
    entries = Image.Exif()
    entries[0x0112] = orientation
    entries[0x010F] = "a camera"
    return entries


def frames(form: str) -> bytes:
    others = [Image.new("RGB", (40, 24), colour) for colour in ("red", "green")]
    return encoded(noise(), form, save_all=True, append_images=others)


def seeds() -> dict[str, bytes]:
    """Sound files that use as many parts of their formats as Pillow writes."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("title", "a cat", zip=True)
    texts.add_itxt("caption", "ein Kätzchen", zip=True)
    profile = b"\0" * 200
    return {
        "png": encoded(noise(), "PNG", pnginfo=texts, exif=exif(), icc_profile=profile),
        "png-palette": encoded(noise("P"), "PNG", transparency=3),
        "png-alpha": encoded(noise("RGBA"), "PNG"),
        "png-16": encoded(noise("I;16"), "PNG"),
        "apng": frames("PNG"),
        "jpeg": encoded(noise(), "JPEG", exif=exif(), icc_profile=profile, comment=b"hello"),
        "jpeg-progressive": encoded(noise(), "JPEG", progressive=True),
        "jpeg-cmyk": encoded(noise("CMYK"), "JPEG"),
        "mpo": frames("MPO"),
        "webp": encoded(noise(), "WEBP", exif=exif()),
        "webp-lossless": encoded(noise("RGBA"), "WEBP", lossless=True),
        "webp-animated": frames("WEBP"),
        "gif": encoded(noise("P"), "GIF"),
        "gif-animated": frames("GIF"),
        "bmp": encoded(noise(), "BMP"),
        "tiff": encoded(noise(), "TIFF", compression="tiff_lzw"),
        "tiff-deflate": encoded(noise("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
    }


SEEDS = seeds()
ANIMATED = {"apng", "webp-animated", "gif-animated"}


def picture_or_reason(data: bytes) -> str:
    """What becomes of ``data``; anything but a valid picture or a `DataError` fails the test."""
    try:
        picture, mask = decode_with_alpha(data, PIXELS)
    except DataError as error:
        return str(error)
    assert picture.mode == "RGB" and min(picture.size) >= MIN_SIDE and picture.width * picture.height <= PIXELS
    assert np.asarray(picture).shape == (picture.height, picture.width, 3)
    if mask is not None:
        assert mask.mode == "L" and mask.size == picture.size and mask.getbbox() is not None
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    return "a picture"


@pytest.mark.parametrize("name", SEEDS)
def test_sound_files_are_decoded_and_animated_ones_refused(name: str) -> None:
    assert picture_or_reason(SEEDS[name]) == ("animated: several frames" if name in ANIMATED else "a picture")


# -- mutations


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound file with bytes flipped, cut, spliced with another, or with a piece of it repeated."""
    data = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("flip", "cut", "splice", "repeat", "drop")))
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 64))
        if kind == "flip":
            for place in range(at, min(at + draw(st.integers(1, 4)), len(data))):
                data[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "splice":
            other = SEEDS[draw(st.sampled_from(sorted(SEEDS)))]
            data[at:] = other[draw(st.integers(0, len(other))) :]
        elif kind == "repeat":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 20))
        else:
            del data[at : at + length]
    return bytes(data)


@FUZZ
@given(mutated())
def test_mutated_files_give_a_picture_or_a_reason(data: bytes) -> None:
    picture_or_reason(data)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def png(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, with sound checksums, so that their content is read and not only their frame."""
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return SIGNATURE + b"".join(body)


@FUZZ
@given(st.data())
def test_png_chunks_with_sound_checksums_in_any_order_give_a_picture_or_a_reason(data: st.DataObject) -> None:
    parts = list(chunks(SEEDS[data.draw(st.sampled_from(("png", "png-palette", "apng")))]))
    parts = [parts[i] for i in data.draw(st.lists(st.integers(0, len(parts) - 1), min_size=1, max_size=len(parts) + 3))]
    place = data.draw(st.integers(0, len(parts) - 1))
    kind, content = parts[place]
    at = data.draw(st.integers(0, len(content)))
    parts[place] = (
        kind,
        content[:at] + data.draw(st.binary(max_size=12)) + content[at:][data.draw(st.integers(0, 8)) :],
    )
    picture_or_reason(png(parts))


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([data[:16] for data in SEEDS.values()]))
@example(b"", b"")
def test_noise_behind_a_sound_beginning_gives_a_reason(data: bytes, beginning: bytes) -> None:
    assert picture_or_reason(beginning + data)


# -- orientation, colours, transparency


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(form: str, orientation: int) -> None:
    corners = Image.new("RGB", (48, 32), "black")
    corners.paste("white", (0, 0, 24, 16))
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    stored = encoded(corners, form, exif=exif(orientation), **options)
    white = np.asarray(decode_picture(stored, PIXELS).convert("L")) > 127
    # The upper left corner as stored, and where EXIF says that it belongs.
    right, lower = orientation in (2, 3, 7, 8), orientation in (3, 4, 6, 7)
    if orientation in (6, 8):
        right, lower = orientation == 6, orientation == 8
    halves = white[: len(white) // 2] if not lower else white[len(white) // 2 :]
    quarter = halves[:, : white.shape[1] // 2] if not right else halves[:, white.shape[1] // 2 :]
    assert quarter.mean() > 0.95 and white.mean() < 0.3
    assert white.shape == ((32, 48) if orientation < 5 else (48, 32))


def test_a_picture_whose_exif_cannot_be_read_is_taken_as_it_is() -> None:
    assert picture_or_reason(encoded(noise(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")) == "a picture"
    assert picture_or_reason(encoded(noise(), "JPEG", exif=b"Exif\0\0no such thing")) == "a picture"
    assert picture_or_reason(encoded(noise(), "PNG", exif=exif(77))) == "a picture"


def test_a_camera_s_second_picture_is_no_second_frame() -> None:
    first = Image.new("RGB", (40, 24), "blue")
    data = encoded(first, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 24), "red")])
    assert np.abs(np.asarray(decode_picture(data, PIXELS)).astype(int) - np.asarray(first)).max() < 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "F"])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_every_colour_mode_becomes_rgb_or_is_refused_by_name(mode: str, form: str) -> None:
    try:
        data = encoded(noise("L").convert(mode) if mode in ("I", "I;16", "F") else noise(mode), form)
    except (OSError, ValueError):
        pytest.skip(f"Pillow writes no {form} in {mode}")
    assert picture_or_reason(data) == ("floating-point pixels" if mode == "F" else "a picture")


def test_transparency_is_the_subject_s_region() -> None:
    layered = noise("RGBA")
    layered.putalpha(0)
    layered.paste((10, 20, 30, 255), (8, 4, 20, 16))
    layered.paste((10, 20, 30, 100), (20, 4, 24, 16))  # more seen through than seen
    for data in (encoded(layered, "PNG"), encoded(layered, "WEBP", lossless=True)):
        picture, mask = decode_with_alpha(data, PIXELS)
        assert mask is not None and mask.getbbox() == (8, 4, 20, 16)
        assert picture.getpixel((0, 0)) == (255, 255, 255) and picture.getpixel((10, 8)) == (10, 20, 30)


def test_transparency_turns_with_its_picture() -> None:
    layered = noise("RGBA")
    layered.putalpha(0)
    layered.paste((10, 20, 30, 255), (0, 0, 10, 24))
    _, mask = decode_with_alpha(encoded(layered, "PNG", exif=exif(6)), PIXELS)
    assert mask is not None and mask.size == (24, 40) and mask.getbbox() == (0, 0, 24, 10)


def test_an_opaque_alpha_channel_says_nothing_and_an_empty_one_too_much() -> None:
    assert decode_with_alpha(encoded(noise("RGBA"), "PNG"), PIXELS).mask is None
    assert decode_with_alpha(encoded(noise(), "PNG"), PIXELS).mask is None
    clear = noise("RGBA")
    clear.putalpha(0)
    with pytest.raises(DataError, match="transparent all over"):
        decode_with_alpha(encoded(clear, "PNG"), PIXELS)


# -- bombs


def zeros(size: int) -> bytes:
    """A zlib stream of ``size`` zeros, made without holding them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def blown_up(kind: bytes, content: bytes) -> bytes:
    """A sound PNG with one more chunk."""
    first, *rest = chunks(SEEDS["png-palette"])
    return png([first, (kind, content), *rest])


def webp(width: int, height: int) -> bytes:
    """A WebP of one small frame that states a canvas of another size."""
    sound = encoded(noise("RGBA"), "WEBP", lossless=True, exif=exif())
    data = bytearray(sound)
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux tells it")
BOMBS = {
    "png": lambda: png([header(60_000, 60_000), (b"IDAT", zeros(64 << 20)), (b"IEND", b"")]),
    "png-below-pillow-s-limit": lambda: png([header(12_000, 12_000), (b"IDAT", zeros(64 << 20)), (b"IEND", b"")]),
    "png-text": lambda: blown_up(b"zTXt", b"title\0\0" + zeros(64 << 20)),
    "png-international-text": lambda: blown_up(b"iTXt", b"title\0\1\0\0\0" + zeros(64 << 20)),
    "png-many-texts": lambda: png(
        [(b"IHDR", header(20, 20)[1]), *[(b"zTXt", b"t\0\0" + zeros(1 << 20))] * 300, (b"IDAT", b""), (b"IEND", b"")]
    ),
    "png-profile": lambda: blown_up(b"iCCP", b"sRGB\0\0" + zeros(64 << 20)),
    "webp": lambda: webp(16_383, 16_383),
    "gif": lambda: SEEDS["gif"][:6] + struct.pack("<HH", 65_535, 65_535) + SEEDS["gif"][10:],
    "bmp": lambda: SEEDS["bmp"][:18] + struct.pack("<ii", 60_000, 60_000) + SEEDS["bmp"][26:],
}
_SOUND_WITHOUT_METADATA = {"png-text", "png-international-text", "png-profile"}
_WATCH = """
    import re, resource, sys
    from components.data.decode import decode_picture
    from components.errors import DataError

    def status(field):
        return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

    sound, most = open(sys.argv[1], "rb").read(), int(sys.argv[2])
    decode_picture(sound, most)
    data = sys.stdin.buffer.read()
    resource.setrlimit(resource.RLIMIT_AS, ((status("VmSize") + 512 * 1024) * 1024,) * 2)
    before = status("VmHWM")
    try:
        decode_picture(data, most)
        print("a picture", end=";")
    except DataError as error:
        print(error, end=";")
    print(status("VmHWM") - before)
"""


def watched(data: bytes, folder: Path, most: int = 50_000_000) -> tuple[str, int]:
    """What becomes of ``data`` in a process of its own, and by how many kB that raised the most memory it held."""
    (folder / "sound.png").write_bytes(SEEDS["png"])
    command = [sys.executable, "-c", textwrap.dedent(_WATCH), str(folder / "sound.png"), str(most)]
    reason, _, kilobytes = subprocess.run(command, input=data, capture_output=True, check=True).stdout.partition(b";")
    return reason.decode(), int(kilobytes)


@on_linux
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_memory(name: str, tmp_path: Path) -> None:
    reason, kilobytes = watched(BOMBS[name](), tmp_path)
    # Texts and profiles are dropped unread: what is left of such a file may be a sound picture.
    assert reason != "a picture" or name in _SOUND_WITHOUT_METADATA
    assert kilobytes < 20_000


@on_linux
def test_a_large_sound_picture_is_seen_to_take_its_memory(tmp_path: Path) -> None:
    """What the test above measures is not nothing."""
    reason, kilobytes = watched(png([header(6000, 5000), (b"IDAT", zeros(86 << 20)), (b"IEND", b"")]), tmp_path)
    assert reason == "a picture" and kilobytes > 80_000


# -- masks


@FUZZ
@given(mutated())
def test_mutated_masks_give_a_mask_or_a_reason(data: bytes) -> None:
    try:
        mask = decode_mask(data, (40, 24), PIXELS)
    except DataError as error:
        assert str(error).startswith("mask: ")
    else:
        assert mask.size == (40, 24) and mask.getbbox() is not None
