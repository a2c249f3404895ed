"""A square training picture that shows the subject, and what SDXL is told about how it was cut."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from components.data.schema import Box


class Square(NamedTuple):
    """A square picture and mask, its time ids (height, width, top, left, height, width) and box in the original."""

    picture: Image.Image
    mask: Image.Image
    time_ids: tuple[int, int, int, int, int, int]
    box: Box


def crop_square(picture: Image.Image, mask: Image.Image, size: int) -> Square:
    """Cut the largest square, as near the middle as lets it hold the subject, and resize it to ``size`` pixels.

    The time ids state the original's height and width, the crop's top and left in the original resized so that its
    shorter side is ``size``, and the size wanted twice: SDXL's own convention. A subject longer than the square is
    cut on both sides alike.
    """
    width, height = picture.size
    side = min(width, height)
    subject = mask.getbbox() or (0, 0, width, height)
    left, top = (_offset(length, side, subject[i], subject[i + 2]) for i, length in enumerate((width, height)))
    box: Box = (left, top, left + side, top + side)
    scale = size / side
    return Square(
        picture.resize((size, size), Image.Resampling.LANCZOS, box=box),
        mask.resize((size, size), Image.Resampling.BOX, box=box),
        (height, width, round(top * scale), round(left * scale), size, size),
        box,
    )


def _offset(length: int, side: int, start: int, end: int) -> int:
    """Where a window of ``side`` pixels starts on a side of ``length``, so that it holds ``start`` to ``end``."""
    wanted = (length - side) // 2
    if end - start >= side:
        return min(max((start + end - side) // 2, 0), length - side)
    return min(max(wanted, end - side), start)
