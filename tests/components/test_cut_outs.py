"""Cut-outs: what they show, and that a picture of any shape is cut out in memory in proportion to its own pixels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from components.cut_outs import box_in_cut_out, cut_out, frame_of

#: Draws a blank picture of 100,000 x 500 pixels, the wide one that a square of 50 GB would be made of.
_WIDE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
from PIL import Image
from components.cut_outs import cut_out
size = (int(sys.argv[1]), int(sys.argv[2]))
made = cut_out(Image.new("RGB", size, "red"), Image.new("L", size, 255), 128)
print(*made.size, *made.getpixel((64, 64)), *made.getpixel((2, 2)))
"""


@pytest.mark.parametrize("size", [(100_000, 500), (500, 100_000), (12_000, 3_000)])
def test_a_picture_far_from_square_needs_no_square_of_its_longer_side(size: tuple[int, int]) -> None:
    command = [sys.executable, "-c", _WIDE, *map(str, size)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-500:]
    assert run.stdout.split() == ["128", "128", "255", "0", "0", "255", "255", "255"]


@settings(max_examples=30, deadline=None)
@given(st.integers(300, 900), st.integers(20, 60), st.booleans(), st.integers(0, 99), st.integers(16, 96))
def test_scaling_first_shows_what_scaling_last_shows(
    long: int, short: int, upright: bool, where: int, size: int
) -> None:
    """Against the plain way: the whole square is made, and then scaled."""
    shape = (short, long) if upright else (long, short)
    picture, mask = Image.new("RGB", shape, "navy"), Image.new("L", shape)
    for image, inside, outside in ((picture, "orange", "navy"), (mask, 255, 0)):
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, *shape), fill=outside)
        draw.rectangle(
            (where, 2, where + long // 2, short - 3) if not upright else (2, where, short - 3, where + long // 2),
            fill=inside,
        )
    left, top, side = frame_of(mask)
    plain = Image.new("RGB", (side, side), "white")
    plain.paste(
        picture.crop((left, top, left + side, top + side)), (0, 0), mask.crop((left, top, left + side, top + side))
    )
    expected = np.asarray(plain.resize((size, size), Image.Resampling.BOX), np.float32)
    found = np.asarray(cut_out(picture, mask, size), np.float32)
    # Corners of the scaled part are rounded to pixels: along its edges, half a pixel of difference.
    assert np.abs(expected - found).mean() < 255 * 6 / size


def test_a_face_of_a_wide_picture_lands_where_the_cut_out_shows_it() -> None:
    picture, mask = Image.new("RGB", (4000, 100), "white"), Image.new("L", (4000, 100), 255)
    ImageDraw.Draw(picture).rectangle((1000, 20, 1999, 79), fill="red")
    made = cut_out(picture, mask, 256)
    box = box_in_cut_out((1000, 20, 2000, 80), mask, 256)
    assert box is not None
    red = np.asarray(made)[..., 1] < 128
    ys, xs = np.nonzero(red)
    assert np.allclose((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), box, atol=1)
