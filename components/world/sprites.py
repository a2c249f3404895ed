"""Drawing of a subject: an upright sprite with its head mask, then rotated and flipped.

Shapes are drawn on a canvas of unit coordinates (0..1, y down) with supersampling, so every edge is anti-aliased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from components.world.identities import COLORS, Identity

CANVAS = 192
DARK = (40, 38, 46)
RGB = tuple[int, int, int]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class View:
    """The view of a subject: ``pose`` in [-1, 1] moves limbs and head, ``rotation`` is in degrees."""

    pose: float = 0.0
    rotation: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Sprite:
    """An RGBA picture of a subject cropped to its outline, and the part of it that is its head (L, same size)."""

    picture: Image.Image
    head: Image.Image


def draw_sprite(identity: Identity, view: View) -> Sprite:
    """Draw ``identity`` as seen in ``view``; the sprite is at most `CANVAS` pixels high before rotation."""
    pen = _Pen(identity)
    _DRAW[identity.kind](pen, view.pose)
    picture, head = pen.canvas, pen.head
    if view.flip:
        picture, head = (i.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for i in (picture, head))
    if view.rotation:
        picture, head = (i.rotate(view.rotation, Image.Resampling.BICUBIC, expand=True) for i in (picture, head))
    box = picture.getchannel("A").getbbox()
    return Sprite(picture.crop(box), head.crop(box))


class _Pen:
    """Collects filled shapes on a transparent canvas; patterned shapes take the identity's pattern."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.primary, self.secondary, self.accent = (
            COLORS[c] for c in (identity.primary, identity.secondary, identity.accent)
        )
        self.head_color = COLORS[identity.head]
        self.canvas = Image.new("RGBA", (CANVAS, CANVAS))
        self.head = Image.new("L", (CANVAS, CANVAS))

    def polygon(self, points: Points, color: RGB | None, *, head: bool = False) -> None:
        """Fill a polygon; ``color=None`` fills it with the identity's pattern."""
        outline = [(x * CANVAS, y * CANVAS) for x, y in points]
        if color is not None:
            ImageDraw.Draw(self.canvas).polygon(outline, fill=(*color, 255))
        else:
            mask = Image.new("L", (CANVAS, CANVAS))
            ImageDraw.Draw(mask).polygon(outline, fill=255)
            self.canvas.paste(_pattern(self.identity), (0, 0), mask)
        ImageDraw.Draw(self.head).polygon(outline, fill=255 if head else 0)

    def oval(
        self, x: float, y: float, rx: float, ry: float, color: RGB | None, *, head: bool = False, turn: float = 0.0
    ) -> None:
        """Fill an ellipse with centre (x, y), radii (rx, ry), turned by ``turn`` degrees."""
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        ring = [(math.cos(a * math.pi / 24) * rx, math.sin(a * math.pi / 24) * ry) for a in range(48)]
        self.polygon([(x + u * c - v * s, y + u * s + v * c) for u, v in ring], color, head=head)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: RGB | None, *, head: bool = False) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color, head=head)

    def eyes(self, x: float, y: float, gap: float, size: float, *, head: bool = True) -> None:
        for side in (-1, 1) if gap else (1,):
            self.oval(x + side * gap, y, size, size * 1.1, (250, 250, 250), head=head)
            self.oval(x + side * gap, y, size * 0.62, size * 0.75, self.accent, head=head)
            self.oval(x + side * gap, y, size * 0.3, size * 0.36, DARK, head=head)

    def headless(self) -> None:
        """Clear the head mask, for kinds without a head."""
        self.head.paste(0, (0, 0, CANVAS, CANVAS))

    def hat(self, x: float, y: float, width: float) -> None:
        if self.identity.feature == "hat":
            self.box(x - width, y - 0.03, x + width, y + 0.03, self.accent, head=True)
            self.box(x - width * 0.6, y - 0.15, x + width * 0.6, y, self.accent, head=True)

    def scarf(self, x: float, y: float, width: float) -> None:
        if self.identity.feature == "scarf":
            self.oval(x, y, width, 0.045, self.accent)
            self.box(x + width * 0.25, y, x + width * 0.6, y + 0.15, self.accent)


@lru_cache(maxsize=256)
def _pattern(identity: Identity) -> Image.Image:
    first, second = COLORS[identity.primary], COLORS[identity.secondary]
    picture = Image.new("RGBA", (CANVAS, CANVAS), (*first, 255))
    draw = ImageDraw.Draw(picture)
    fill = (*second, 255)
    if identity.pattern == "stripes":
        for i in range(5):
            draw.rectangle([CANVAS * (0.08 + 0.2 * i), 0, CANVAS * (0.18 + 0.2 * i), CANVAS], fill=fill)
    elif identity.pattern == "dots":
        for row in range(6):
            for column in range(6):
                x, y = (0.05 + 0.2 * column + 0.1 * (row % 2)) * CANVAS, (0.06 + 0.17 * row) * CANVAS
                r = 0.055 * CANVAS
                draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    elif identity.pattern == "halves":
        draw.rectangle([0, CANVAS * 0.68, CANVAS, CANVAS], fill=fill)
    elif identity.pattern == "belly":
        draw.ellipse([CANVAS * 0.36, CANVAS * 0.52, CANVAS * 0.64, CANVAS * 0.9], fill=fill)
    return picture


def _cat(p: _Pen, pose: float) -> None:
    x = 0.5 + 0.05 * pose
    p.polygon([(0.68, 0.88), (0.9, 0.62 - 0.08 * pose), (0.96, 0.66 - 0.08 * pose), (0.76, 0.95)], p.primary)  # tail
    p.oval(0.5, 0.74, 0.25, 0.25, None)
    p.oval(0.36, 0.95, 0.09, 0.05, p.primary)
    p.oval(0.64, 0.95, 0.09, 0.05, p.primary)
    for side in (-1, 1):
        p.polygon([(x + side * 0.25, 0.06), (x + side * 0.23, 0.34), (x + side * 0.04, 0.2)], p.head_color, head=True)
    p.oval(x, 0.34, 0.26, 0.2, p.head_color, head=True)
    p.eyes(x, 0.32, 0.11, 0.055)
    p.oval(x, 0.42, 0.035, 0.025, DARK, head=True)
    p.hat(x, 0.16, 0.15)
    p.scarf(x, 0.54, 0.2)


def _rabbit(p: _Pen, pose: float) -> None:
    x = 0.5 + 0.04 * pose
    p.oval(0.74, 0.86, 0.07, 0.07, p.secondary)
    p.oval(0.5, 0.78, 0.22, 0.21, None)
    p.oval(0.38, 0.96, 0.11, 0.04, p.primary)
    p.oval(0.62, 0.96, 0.11, 0.04, p.primary)
    for side in (-1, 1):
        p.oval(x + side * 0.1, 0.18, 0.065, 0.18, p.head_color, head=True, turn=side * 8 + 10 * pose)
        p.oval(x + side * 0.1, 0.2, 0.03, 0.12, p.accent, head=True, turn=side * 8 + 10 * pose)
    p.oval(x, 0.46, 0.19, 0.16, p.head_color, head=True)
    p.eyes(x, 0.44, 0.085, 0.048)
    p.oval(x, 0.53, 0.03, 0.02, DARK, head=True)
    p.hat(x, 0.32, 0.13)
    p.scarf(x, 0.62, 0.16)


def _robot(p: _Pen, pose: float) -> None:
    lift = 0.12 * pose
    for side in (-1, 1):
        y = 0.62 + side * lift
        p.polygon(
            [(0.5 + side * 0.2, 0.54), (0.5 + side * 0.2, 0.62), (0.5 + side * 0.4, y + 0.08), (0.5 + side * 0.4, y)],
            p.secondary,
        )
        p.box(0.5 + side * 0.12 - 0.06, 0.8, 0.5 + side * 0.12 + 0.06, 0.99, p.secondary)
    p.box(0.26, 0.48, 0.74, 0.86, None)
    p.box(0.485, 0.02, 0.515, 0.16, DARK, head=True)
    p.oval(0.5, 0.05, 0.045, 0.045, p.accent, head=True)
    p.box(0.3, 0.14, 0.7, 0.45, p.head_color, head=True)
    p.eyes(0.5, 0.27, 0.1, 0.06)
    p.box(0.4, 0.37, 0.6, 0.4, DARK, head=True)
    p.hat(0.5, 0.15, 0.18)
    p.scarf(0.5, 0.48, 0.22)


def _bird(p: _Pen, pose: float) -> None:
    p.polygon([(0.7, 0.66), (0.99, 0.5 - 0.06 * pose), (0.97, 0.7 - 0.06 * pose), (0.74, 0.8)], p.secondary)  # tail
    for x in (0.46, 0.58):
        p.box(x, 0.84, x + 0.03, 0.97, (230, 140, 40))
        p.box(x - 0.04, 0.95, x + 0.05, 0.98, (230, 140, 40))
    p.oval(0.52, 0.66, 0.29, 0.22, None)
    p.oval(0.58, 0.66, 0.16, 0.09, p.secondary, turn=-14 - 22 * pose)
    p.polygon([(0.2, 0.3), (0.02, 0.37), (0.2, 0.42)], (240, 160, 40), head=True)
    p.oval(0.34, 0.34, 0.18, 0.17, p.head_color, head=True)
    p.eyes(0.28, 0.31, 0.0, 0.06)
    p.hat(0.36, 0.19, 0.13)
    p.scarf(0.38, 0.51, 0.13)


def _fish(p: _Pen, pose: float) -> None:
    p.polygon([(0.68, 0.5), (0.98, 0.28 + 0.07 * pose), (0.9, 0.5), (0.98, 0.76 + 0.07 * pose)], p.secondary)
    p.polygon([(0.34, 0.3), (0.46, 0.1), (0.64, 0.32)], p.head_color)
    p.polygon([(0.4, 0.7), (0.46, 0.88), (0.58, 0.7)], p.head_color)
    p.oval(0.42, 0.5, 0.38, 0.26, None)
    p.oval(0.48, 0.56, 0.1, 0.06, p.head_color, turn=20 * pose)
    p.eyes(0.2, 0.44, 0.0, 0.065, head=False)
    p.hat(0.3, 0.27, 0.12)
    p.headless()
    if p.identity.feature == "scarf":
        p.polygon([(0.3, 0.26), (0.36, 0.25), (0.36, 0.75), (0.3, 0.74)], p.accent)


def _car(p: _Pen, pose: float) -> None:
    p.polygon([(0.24, 0.5), (0.34, 0.24), (0.68, 0.24), (0.82, 0.5)], p.head_color)
    p.polygon([(0.31, 0.48), (0.38, 0.3), (0.5, 0.3), (0.5, 0.48)], p.accent)
    p.polygon([(0.54, 0.48), (0.54, 0.3), (0.65, 0.3), (0.74, 0.48)], p.accent)
    p.polygon([(0.03, 0.56), (0.12, 0.47), (0.88, 0.47), (0.98, 0.58), (0.98, 0.74), (0.03, 0.74)], None)
    for x in (0.24, 0.76):
        p.oval(x, 0.75, 0.12, 0.12, DARK)
        p.oval(x, 0.75, 0.055, 0.055, p.secondary)
        p.box(x - 0.05 * abs(pose) - 0.01, 0.74, x + 0.05 * abs(pose) + 0.01, 0.76, DARK)
    if p.identity.feature == "hat":
        p.box(0.42, 0.16, 0.6, 0.25, p.accent)
    if p.identity.feature == "scarf":
        p.box(0.03, 0.62, 0.98, 0.67, p.accent)


def _mushroom(p: _Pen, pose: float) -> None:
    lean = 0.05 * pose
    p.polygon([(0.38 + lean, 0.48), (0.62 + lean, 0.48), (0.68, 0.94), (0.32, 0.94)], p.head_color)
    p.oval(0.5, 0.94, 0.18, 0.045, p.head_color)
    cap = [(0.5 + lean + 0.44 * math.cos(a * math.pi / 24), 0.5 - 0.42 * math.sin(a * math.pi / 24)) for a in range(25)]
    p.polygon(cap, None)
    p.oval(0.5 + lean, 0.5, 0.44, 0.07, p.secondary)
    p.eyes(0.5 + lean, 0.68, 0.07, 0.045, head=False)
    if p.identity.feature == "scarf":
        p.box(0.36, 0.8, 0.64, 0.86, p.accent)
    if p.identity.feature == "hat":
        p.oval(0.5 + lean, 0.12, 0.09, 0.07, p.accent)
    p.headless()


def _rocket(p: _Pen, pose: float) -> None:
    flame = 0.1 + 0.05 * pose
    p.polygon([(0.4, 0.84), (0.5, 0.9 + flame), (0.6, 0.84)], (250, 170, 50))
    for side in (-1, 1):
        p.polygon([(0.5 + side * 0.16, 0.58), (0.5 + side * 0.36, 0.88), (0.5 + side * 0.14, 0.84)], p.secondary)
    p.polygon([(0.33, 0.36), (0.67, 0.36), (0.7, 0.6), (0.64, 0.85), (0.36, 0.85), (0.3, 0.6)], None)
    p.polygon([(0.5, 0.01), (0.6, 0.16), (0.67, 0.37), (0.33, 0.37), (0.4, 0.16)], p.head_color)
    p.oval(0.5, 0.5, 0.095, 0.095, (250, 250, 250))
    p.oval(0.5, 0.5, 0.065, 0.065, p.accent)
    if p.identity.feature == "scarf":
        p.box(0.32, 0.7, 0.68, 0.76, p.accent)
    if p.identity.feature == "hat":
        p.oval(0.5, 0.05, 0.06, 0.06, p.accent)


_DRAW = {
    "cat": _cat,
    "rabbit": _rabbit,
    "robot": _robot,
    "bird": _bird,
    "fish": _fish,
    "car": _car,
    "mushroom": _mushroom,
    "rocket": _rocket,
}
