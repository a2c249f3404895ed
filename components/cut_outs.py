"""Cutting subjects out of pictures."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

#: White space around the subject, as a share of its longer side.
MARGIN = 0.06
#: A square with more than this many times the pixels of its picture is only made after scaling down.
_LARGEST_SQUARE = 4


class Frame(NamedTuple):
    """The square of a picture that a cut-out shows, in pixels of the picture; it may reach beyond the picture."""

    left: int
    top: int
    side: int


def frame_of(mask: Image.Image) -> Frame:
    """The square around the subject of ``mask`` (L), white space included; an empty mask frames the whole picture."""
    x0, y0, x1, y1 = mask.getbbox() or (0, 0, *mask.size)
    width, height = x1 - x0, y1 - y0
    side = max(1, round(max(width, height) * (1 + 2 * MARGIN)))
    return Frame(x0 - (side - width) // 2, y0 - (side - height) // 2, side)


def cut_out(picture: Image.Image, mask: Image.Image, size: int, frame: Frame | None = None) -> Image.Image:
    """Cut the masked subject out of ``picture`` onto a white square of ``size`` pixels.

    Memory is in proportion to the pixels of ``picture`` and of the result, whatever the shape of the picture.

    Args:
        picture: RGB picture.
        mask: L picture of the same size, 255 on the subject. An empty mask keeps the whole picture.
        size: side of the square in pixels.
        frame: what the square shows; by default the surroundings of the mask.
    """
    left, top, side = frame or frame_of(mask)
    if mask.getbbox() is None:
        mask = Image.new("L", picture.size, 255)
    if side > size and side * side > _LARGEST_SQUARE * picture.width * picture.height:
        return _scaled_then_squared(picture, mask, size, Frame(left, top, side))
    area = (left, top, left + side, top + side)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture.crop(area), (0, 0), mask.crop(area))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def _scaled_then_squared(picture: Image.Image, mask: Image.Image, size: int, frame: Frame) -> Image.Image:
    """`cut_out` of a picture that is far from square: the part inside ``frame`` is scaled before it is squared."""
    x0, y0 = max(0, frame.left), max(0, frame.top)
    x1, y1 = min(picture.width, frame.left + frame.side), min(picture.height, frame.top + frame.side)
    scale = size / frame.side
    small = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    corner = round((x0 - frame.left) * scale), round((y0 - frame.top) * scale)
    square = Image.new("RGB", (size, size), "white")
    part, part_mask = (i.resize(small, Image.Resampling.BICUBIC, (x0, y0, x1, y1)) for i in (picture, mask))
    square.paste(part, corner, part_mask)
    return square


class CutOut(NamedTuple):
    """A subject on a white square, and the box of its face (x0, y0, x1, y1 in pixels) in it, if one is known."""

    picture: Image.Image
    face: tuple[float, float, float, float] | None


def cut_out_with_face(
    picture: Image.Image, mask: Image.Image, face: tuple[float, float, float, float] | None, size: int
) -> CutOut:
    """`cut_out` of the subject, and `box_in_cut_out` of its face, where one is given."""
    return CutOut(cut_out(picture, mask, size), None if face is None else box_in_cut_out(face, mask, size))


def clip_mask(mask: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """``mask`` (L), cleared outside of ``box``."""
    clipped = Image.new("L", mask.size)
    clipped.paste(mask.crop(box), box[:2])
    return clipped


def box_in_cut_out(
    box: tuple[float, float, float, float], mask: Image.Image, size: int
) -> tuple[float, float, float, float] | None:
    """The coordinates of ``box`` of a picture in `cut_out(picture, mask, size)`.

    Args:
        box: x0, y0, x1, y1 in pixels of the picture.

    Returns:
        x0, y0, x1, y1 in pixels of the cut-out, clipped to it; None when nothing of the box is in it.
    """
    left, top, side = frame_of(mask)
    x0, x1 = (min(max((x - left) * size / side, 0.0), size) for x in (box[0], box[2]))
    y0, y1 = (min(max((y - top) * size / side, 0.0), size) for y in (box[1], box[3]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
