"""Filled shapes on a supersampled canvas, each with its edge line and an entry in a map of labels.

Coordinates are set by `Pen.frame`: without one they are shares of the picture, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from components.world.storybook.identities import Rgb

#: Canvas pixels per pixel of the picture; OpenCV smooths edges on the canvas as well.
SUPERSAMPLING = 2
_SHIFT = 4
DARK: Rgb = (44, 40, 50)
Point = tuple[float, float]
Points = Sequence[Point] | np.ndarray

BACKGROUND = 0
#: Labels of a subject are ``LABELS_PER_SUBJECT * index + part``.
BODY, HEAD = 1, 2
LABELS_PER_SUBJECT = 2


@dataclass(frozen=True)
class Lines:
    """Edges of shapes: ``width`` in pixels of a 128-pixel picture; ``ink`` None is a darker fill colour."""

    width: float
    ink: Rgb | None = None
    #: Share of paper white in fills.
    wash: float = 0.0


PAPER: Rgb = (252, 249, 240)


@dataclass(frozen=True)
class Texture:
    """A base colour with shapes of another colour on it, in the frame of the shape that it fills."""

    base: Rgb
    color: Rgb
    shapes: Sequence[np.ndarray]


class Pen:
    """Draws on an RGB canvas and records which subject's part is visible in each pixel."""

    def __init__(self, size: int, lines: Lines) -> None:
        side = size * SUPERSAMPLING
        self.size, self.lines = size, lines
        self.canvas = np.zeros((side, side, 3), np.uint8)
        self.labels = np.zeros((side, side), np.uint8)
        self._label = BACKGROUND
        self._matrix = np.array([[side, 0.0, 0.0], [0.0, side, 0.0]])

    @contextmanager
    def frame(self, x: float, y: float, scale: float = 1.0, turn: float = 0.0, mirror: bool = False) -> Iterator[None]:
        """Draw with the origin at (``x``, ``y``), enlarged, turned by ``turn`` degrees, mirrored left to right."""
        outer = self._matrix
        c, s = math.cos(math.radians(turn)) * scale, math.sin(math.radians(turn)) * scale
        flip = -1.0 if mirror else 1.0
        inner = np.array([[c * flip, -s, x], [s * flip, c, y], [0.0, 0.0, 1.0]])
        self._matrix = outer @ inner
        try:
            yield
        finally:
            self._matrix = outer

    @contextmanager
    def label(self, label: int) -> Iterator[None]:
        """Record what is drawn as ``label``."""
        outer, self._label = self._label, label
        try:
            yield
        finally:
            self._label = outer

    @property
    def unit(self) -> float:
        """Canvas pixels of one unit of the current frame."""
        m = self._matrix
        return math.sqrt(abs(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]))

    def place(self, points: Points) -> np.ndarray:
        """Points of the current frame as canvas coordinates, float [n, 2]."""
        flat = np.asarray(points, float)
        placed: np.ndarray = flat @ self._matrix[:, :2].T + self._matrix[:, 2]
        return placed

    def polygon(self, points: Points, fill: Rgb | Texture, *, edge: bool = True) -> None:
        """Fill a polygon, its edge line outside of it."""
        outline = _fixed(self.place(points))
        base = fill.base if isinstance(fill, Texture) else fill
        if edge and self.lines.width:
            width = max(1, round(2 * self.lines.width * self.canvas.shape[0] / 128))
            ink = self.lines.ink or _darker(base)
            cv2.polylines(self.canvas, [outline], True, ink, width, cv2.LINE_AA, _SHIFT)
            cv2.polylines(self.labels, [outline], True, self._label, width, cv2.LINE_8, _SHIFT)
        if isinstance(fill, Texture):
            self._fill_texture(outline, fill)
        else:
            cv2.fillPoly(self.canvas, [outline], self._washed(fill), cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self.labels, [outline], self._label, cv2.LINE_8, _SHIFT)

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: Rgb | Texture, *, turn: float = 0.0, edge: bool = True
    ) -> None:
        """Fill an ellipse with centre (x, y)."""
        self.polygon(ring(x, y, rx, ry, turn), fill, edge=edge)

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: Rgb | Texture,
        *,
        round_by: float = 0.0,
        edge: bool = True,
    ) -> None:
        """Fill a rectangle whose corners are rounded by a radius of ``round_by``."""
        if not round_by:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, edge=edge)
            return
        r = round_by
        corners = ((x1 - r, y1 - r), (x0 + r, y1 - r), (x0 + r, y0 + r), (x1 - r, y0 + r))
        points = [
            (x + r * math.cos(math.radians(quarter * 90 + a)), y + r * math.sin(math.radians(quarter * 90 + a)))
            for quarter, (x, y) in enumerate(corners)
            for a in (0, 30, 60, 90)
        ]
        self.polygon(points, fill, edge=edge)

    def limb(self, start: Point, end: Point, radius: float, fill: Rgb) -> None:
        """Fill a bar with round ends."""
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        turns = [angle + math.pi / 2 + math.pi * i / 8 for i in range(9)]
        cap = [(start[0] + radius * math.cos(t), start[1] + radius * math.sin(t)) for t in turns]
        cap += [(end[0] - radius * math.cos(t), end[1] - radius * math.sin(t)) for t in turns]
        self.polygon(cap, fill)

    def line(self, points: Points, color: Rgb, width: float) -> None:
        """Draw a line; ``width`` is in units of the current frame, at least one canvas pixel."""
        path = _fixed(self.place(points))
        thick = max(1, round(width * self.unit))
        cv2.polylines(self.canvas, [path], False, color, thick, cv2.LINE_AA, _SHIFT)
        cv2.polylines(self.labels, [path], False, self._label, thick, cv2.LINE_8, _SHIFT)

    def shade(self, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        """Darken an ellipse, as a shadow."""
        placed = self.place(ring(x, y, rx, ry))
        x0, y0 = np.floor(placed.min(0)).astype(int).clip(0)
        x1, y1 = (np.ceil(placed.max(0)).astype(int) + 1).clip(0, self.canvas.shape[0])
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [_fixed(placed - (x0, y0))], 255, cv2.LINE_AA, _SHIFT)
        area = self.canvas[y0:y1, x0:x1]
        area[:] = (area * (1 - strength * mask[..., None].astype(np.float32) / 255)).astype(np.uint8)

    def gradient(self, top: Rgb, bottom: Rgb) -> None:
        """Fill the canvas from ``top`` to ``bottom``."""
        share = np.linspace(0, 1, len(self.canvas), dtype=np.float32)[:, None, None]
        first, last = (np.array(self._washed(color), np.float32) for color in (top, bottom))
        self.canvas[:] = (first * (1 - share) + last * share + 0.5).astype(np.uint8)

    def _fill_texture(self, outline: np.ndarray, texture: Texture) -> None:
        points = outline.reshape(-1, 2) / (1 << _SHIFT)
        x0, y0 = (np.floor(points.min(0)).astype(int) - 1).clip(0)
        x1, y1 = (np.ceil(points.max(0)).astype(int) + 2).clip(0, self.canvas.shape[0])
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [_fixed(points - (x0, y0))], 255, cv2.LINE_AA, _SHIFT)
        filled = np.empty((*mask.shape, 3), np.uint8)
        filled[:] = self._washed(texture.base)
        for shape in texture.shapes:
            cv2.fillPoly(
                filled, [_fixed(self.place(shape) - (x0, y0))], self._washed(texture.color), cv2.LINE_AA, _SHIFT
            )
        area = self.canvas[y0:y1, x0:x1]
        alpha = mask[..., None].astype(np.uint16)
        area[:] = ((filled * alpha + area * (255 - alpha) + 127) // 255).astype(np.uint8)

    def _washed(self, color: Rgb) -> Rgb:
        return mix(color, PAPER, self.lines.wash) if self.lines.wash else color


def ring(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    """The outline of an ellipse, [28, 2]."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    unit = _CIRCLE * (rx, ry)
    return np.stack([x + unit[:, 0] * c - unit[:, 1] * s, y + unit[:, 0] * s + unit[:, 1] * c], 1)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, count: int = 10) -> np.ndarray:
    """Points of an ellipse's arc from ``start`` to ``end`` degrees (0 right, 90 down)."""
    turns = np.radians(np.linspace(start, end, count))
    return np.stack([x + rx * np.cos(turns), y + ry * np.sin(turns)], 1)


def mix(color: Rgb, other: Rgb, share: float) -> Rgb:
    """``color`` with a ``share`` of ``other`` in it."""
    r, g, b = (round(a * (1 - share) + o * share) for a, o in zip(color, other, strict=True))
    return r, g, b


def _darker(color: Rgb) -> Rgb:
    return mix(color, (30, 22, 40), 0.38)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Canvas coordinates in OpenCV's fixed-point form (pixel centres are whole numbers there)."""
    return np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)


_TURNS = np.arange(28) * (2 * math.pi / 28)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1)
