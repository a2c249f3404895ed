"""Styles of a picture: line settings, and post-processing of the canvas."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from components.world.storybook.pen import DARK, Lines


@dataclass(frozen=True)
class StyleLines:
    """Edges of the place and of the subjects."""

    place: Lines
    subject: Lines


_FLAT = StyleLines(Lines(0.0), Lines(0.7))
LINES: dict[str, StyleLines] = {
    "flat": _FLAT,
    "ink": StyleLines(Lines(0.75, DARK, wash=0.86), Lines(1.3, DARK)),
    "pixel art": StyleLines(Lines(0.0), Lines(1.2)),
    "lamplight": _FLAT,
}
#: Pixels of the picture to a side of a square of pixel art.
_SQUARE = 2
_LEVELS = 6
_NIGHT = np.array([0.3, 0.34, 0.56], np.float32)
_WARM = np.array([1.08, 0.96, 0.76], np.float32)


def finish(canvas: np.ndarray, style: str, size: int, lamp: tuple[float, float]) -> np.ndarray:
    """Downsample the canvas to ``size`` pixels in ``style``; ``lamp`` is the position of lamplight (shares)."""
    if style == "pixel art":
        small = cv2.resize(canvas, (size // _SQUARE, size // _SQUARE), interpolation=cv2.INTER_AREA)
        step = 255 / (_LEVELS - 1)
        small = (np.round(small / step) * step).astype(np.uint8)
        return cv2.resize(small, (size, size), interpolation=cv2.INTER_NEAREST)
    picture = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return _light(picture, lamp) if style == "lamplight" else picture


def _light(picture: np.ndarray, lamp: tuple[float, float]) -> np.ndarray:
    """Darken to night, with warm light in a circle around ``lamp``."""
    size = len(picture)
    rows, columns = np.ogrid[0:size, 0:size]
    distance = np.hypot((columns / size - lamp[0]), (rows / size - lamp[1]) * 0.9)
    share = np.clip((0.52 - distance) / 0.3, 0, 1).astype(np.float32)[..., None]
    share = share * share * (3 - 2 * share)
    lit = picture * (_NIGHT * (1 - share) + _WARM * share)
    glow = np.clip((0.5 - distance) / 0.5, 0, 1).astype(np.float32)[..., None] * np.array([26, 16, 0], np.float32)
    result: np.ndarray = np.clip(lit + glow, 0, 255).astype(np.uint8)
    return result
