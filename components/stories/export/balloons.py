"""The geometry of speech balloons, for every format that draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from components.stories.export.story_text import wrap_text
from components.stories.story import Balloon

Point = tuple[float, float]
#: Distance of a balloon from the picture's edge, as a share of the font size.
_INSET = 0.4


@dataclass(frozen=True)
class BalloonShape:
    """A balloon in a picture's coordinates, y downwards.

    Args:
        box: left, top, right and bottom.
        radius: of the box's corners.
        tail: the two points of the tail's base, and its tip; None if the tip is inside the box.
        lines: of text, each with the centre of its baseline.
        font_size: of the text.
    """

    box: tuple[float, float, float, float]
    radius: float
    tail: tuple[Point, Point, Point] | None
    lines: tuple[tuple[str, Point], ...]
    font_size: float


def balloon_shape(
    balloon: Balloon, width: float, height: float, font_size: float, measure: Callable[[str], float]
) -> BalloonShape | None:
    """Where a balloon is in a picture of a size; None without text.

    Args:
        measure: the width of a text in ``font_size``.
    """
    if not balloon.text.strip():
        return None
    lines = wrap_text(balloon.text, width * 0.42, measure)
    half_w = max(map(measure, lines)) / 2 + font_size * 0.9
    half_h = len(lines) * font_size * 0.65 + font_size * 0.6
    inset = _INSET * font_size
    x = _within(balloon.x * width, half_w + inset, width - half_w - inset)
    y = _within(balloon.y * height, half_h + inset, height - half_h - inset)
    tip = (balloon.tail_x * width, balloon.tail_y * height)
    outside = abs(tip[0] - x) > half_w or abs(tip[1] - y) > half_h
    first = y - (len(lines) / 2) * font_size * 1.3 + font_size
    return BalloonShape(
        box=(x - half_w, y - half_h, x + half_w, y + half_h),
        radius=min(half_w, half_h),
        tail=_tail((x, y), tip, min(half_w, half_h) * 0.45) if outside else None,
        lines=tuple((line, (x, first + index * font_size * 1.3)) for index, line in enumerate(lines)),
        font_size=font_size,
    )


def _tail(centre: Point, tip: Point, half: float) -> tuple[Point, Point, Point]:
    """A triangle from the centre of a balloon, ``2 * half`` wide, to the tip."""
    across, along = tip[0] - centre[0], tip[1] - centre[1]
    length = max(1e-6, (across**2 + along**2) ** 0.5)
    side = (-along / length * half, across / length * half)
    return (centre[0] + side[0], centre[1] + side[1]), (centre[0] - side[0], centre[1] - side[1]), tip


def _within(value: float, least: float, most: float) -> float:
    return (least + most) / 2 if least > most else min(max(value, least), most)
