"""Face boxes: where they land in a cut-out, and which patches they make the face group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.cut_outs import box_in_cut_out, cut_out
from components.model.face_tokens import face_tokens

Box = tuple[int, int, int, int]


@pytest.mark.parametrize("size", [64, 128, 300])
@pytest.mark.parametrize(
    ("subject", "head"),
    [
        ((30, 10, 90, 110), (40, 10, 70, 50)),  # tall
        ((10, 40, 150, 80), (110, 40, 150, 70)),  # wide
        ((0, 0, 160, 120), (0, 0, 40, 40)),  # reaching the borders
        ((140, 100, 160, 120), (145, 100, 155, 108)),  # small, in a corner
    ],
)
def test_painted_head_lands_where_its_box_does(subject: Box, head: Box, size: int) -> None:
    picture, mask = Image.new("RGB", (160, 120), "white"), Image.new("L", (160, 120))
    picture.paste("black", head)
    mask.paste(255, subject)
    box = box_in_cut_out(head, mask, size)
    seen = cut_out(picture, mask, size).convert("L").point(lambda v: 255 if v < 128 else 0).getbbox()
    assert box is not None and seen is not None
    assert np.abs(np.subtract(box, seen)).max() <= 1


def test_box_is_clipped_to_the_cut_out() -> None:
    mask = Image.new("L", (100, 100))
    mask.paste(255, (40, 40, 60, 60))
    assert box_in_cut_out((0, 0, 50, 50), mask, 220) == (0, 0, 110, 110)
    assert box_in_cut_out((0, 0, 100, 100), mask, 220) == (0, 0, 220, 220)
    assert box_in_cut_out((0, 0, 30, 100), mask, 220) is None


def test_empty_mask_keeps_the_whole_picture_and_its_boxes() -> None:
    box = box_in_cut_out((0, 0, 100, 100), Image.new("L", (100, 100)), 112)
    assert box == (6, 6, 106, 106)


def test_patches_belong_to_the_face_by_their_centres() -> None:
    tokens = face_tokens((7.9, 8.0, 24.1, 24.0), 64, 8).view(8, 8)
    assert tokens.nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert face_tokens((32, 0, 64, 16), 64, 4).view(4, 4).nonzero().tolist() == [[0, 2], [0, 3]]


def test_no_box_and_boxes_without_a_centre_leave_the_face_group_empty() -> None:
    assert not face_tokens(None, 64, 8).any()
    assert not face_tokens((0, 0, 0, 0), 64, 8).any()
    assert not face_tokens((5, 5, 11, 11), 64, 8).any()
    assert face_tokens((0, 0, 64, 64), 64, 8).all()


@given(st.integers(1, 27), st.floats(0, 384), st.floats(0, 384), st.integers(1, 384))
def test_neighbouring_boxes_share_no_patch_and_miss_none(grid: int, x: float, y: float, size: int) -> None:
    x, y = min(x, size), min(y, size)
    quarters = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
    assert (sum(face_tokens(q, size, grid).int() for q in quarters) == 1).all()
