"""Places: backgrounds that captions describe."""

from __future__ import annotations

import random

from components.world.storybook.identities import Rgb
from components.world.storybook.pen import Pen, arc, mix

#: Place -> the words that describe it in a caption.
PLACES: dict[str, str] = {
    "beach": "on the beach",
    "forest": "in the forest",
    "meadow": "in a meadow",
    "snow": "in the snow",
    "desert": "in the desert",
    "city": "in the city",
    "room": "in a room",
    "sea": "under the sea",
}
_WHITE: Rgb = (252, 252, 252)


def draw_place(pen: Pen, place: str, rng: random.Random) -> None:
    """Draw ``place`` over the whole canvas; ``rng`` varies its horizon and objects."""
    _DRAW[place](pen, rng, rng.uniform(0.6, 0.68))


def _ground(pen: Pen, y: float, color: Rgb) -> None:
    pen.box(-0.1, y, 1.1, 1.1, color)


def _sun(pen: Pen, x: float, color: Rgb = (255, 222, 92)) -> None:
    pen.oval(x, 0.14, 0.08, 0.08, color)


def _cloud(pen: Pen, x: float, y: float) -> None:
    for dx, dy, r in ((-0.08, 0.012, 0.045), (0.08, 0.012, 0.045), (0.0, -0.012, 0.065)):
        pen.oval(x + dx, y + dy, r * 1.25, r, _WHITE, edge=False)
    pen.box(x - 0.1, y + 0.01, x + 0.1, y + 0.055, _WHITE, round_by=0.02, edge=False)


def _side(rng: random.Random) -> float:
    """A random position near the left or right border."""
    x = rng.uniform(0.08, 0.2)
    return x if rng.random() < 0.5 else 1 - x


def _beach(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((146, 214, 250), (214, 240, 252))
    x = _side(rng)
    _sun(pen, 1 - x)
    pen.box(-0.1, y - 0.14, 1.1, y + 0.02, (58, 152, 216))
    _ground(pen, y, (246, 222, 160))
    lean = 0.05 if x < 0.5 else -0.05
    pen.polygon(
        [(x - 0.025, y + 0.06), (x + 0.025, y + 0.06), (x + lean + 0.015, 0.28), (x + lean - 0.015, 0.28)],
        (158, 112, 66),
    )
    for side in (-1, 1):
        for dy, turn in ((-0.03, -30), (0.05, 20)):
            pen.oval(x + lean + side * 0.1, 0.29 + dy, 0.115, 0.032, (64, 164, 84), turn=side * turn)


def _forest(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((174, 222, 214), (212, 238, 210))
    for x in (0.06, 0.34, 0.66, 0.94):
        x += rng.uniform(-0.05, 0.05)
        pen.box(x - 0.03, 0.3, x + 0.03, y + 0.04, (132, 92, 62))
        pen.oval(x, rng.uniform(0.2, 0.26), 0.14, 0.2, rng.choice(((66, 140, 84), (84, 156, 88), (54, 124, 80))))
    _ground(pen, y, (112, 164, 88))


def _meadow(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((140, 206, 250), (216, 238, 252))
    _cloud(pen, rng.uniform(0.15, 0.85), rng.uniform(0.1, 0.2))
    x = _side(rng)
    pen.oval(x, y + 0.12, 0.5, 0.22, (150, 212, 112))
    _ground(pen, y, (128, 202, 98))
    for at in (0.08, 0.3, 0.7, 0.92):
        at += rng.uniform(-0.05, 0.05)
        row = y + rng.uniform(0.05, 0.1)
        petal = rng.choice(((255, 255, 255), (255, 214, 90), (250, 150, 190)))
        pen.line([(at, row), (at, row + 0.07)], (60, 140, 60), 0.012)
        pen.oval(at, row, 0.028, 0.028, petal)


def _snow(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((164, 196, 232), (214, 228, 246))
    shift = rng.uniform(-0.1, 0.1)
    for x, top in ((0.22 + shift, 0.26), (0.75 + shift, 0.2)):
        pen.polygon([(x - 0.36, y + 0.02), (x, top), (x + 0.36, y + 0.02)], (132, 152, 186))
        cap = [(-0.12, 0.13), (0, 0), (0.12, 0.13), (0.05, 0.1), (0, 0.15), (-0.05, 0.1)]
        pen.polygon([(x + u, top + v) for u, v in cap], _WHITE, edge=False)
    _ground(pen, y, (240, 246, 253))
    x = _side(rng)
    for k in range(3):
        wide, low = 0.1 - 0.02 * k, y - 0.1 * k
        pen.polygon([(x - wide, low + 0.04), (x, low - 0.14), (x + wide, low + 0.04)], (62, 128, 104))


def _desert(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((252, 208, 150), (254, 234, 190))
    x = _side(rng)
    _sun(pen, 1 - x, (255, 244, 200))
    pen.polygon(arc(1 - x, y + 0.05, 0.5, 0.16, 180, 360), (236, 176, 108))
    _ground(pen, y, (226, 160, 92))
    green: Rgb = (84, 152, 92)
    for side in (-1, 1):
        pen.limb((x, y - 0.1 + 0.04 * side), (x + side * 0.08, y - 0.1 + 0.04 * side), 0.022, green)
        pen.limb((x + side * 0.08, y - 0.1 + 0.04 * side), (x + side * 0.08, y - 0.19 + 0.04 * side), 0.022, green)
    pen.limb((x, y + 0.05), (x, y - 0.27), 0.034, green)


def _city(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((176, 206, 236), (226, 232, 240))
    x = -0.05
    for _ in range(5):
        wide, top = rng.uniform(0.19, 0.26), rng.uniform(0.16, 0.38)
        wall = rng.choice(((196, 144, 128), (150, 158, 182), (206, 186, 150), (168, 146, 168)))
        pen.box(x, top, x + wide, y, wall)
        for row in range(3):
            for column in (0.28, 0.72):
                cx, cy = x + wide * column, top + 0.07 + 0.11 * row
                pen.box(cx - 0.022, cy - 0.03, cx + 0.022, cy + 0.03, (252, 240, 190), edge=False)
        x += wide
    _ground(pen, y, (150, 152, 160))
    pen.box(-0.1, y, 1.1, y + 0.05, (198, 198, 202), edge=False)


def _room(pen: Pen, rng: random.Random, y: float) -> None:
    wall = rng.choice(((246, 222, 204), (236, 222, 238), (222, 234, 216)))
    pen.gradient(wall, mix(wall, _WHITE, 0.2))
    x = _side(rng) * 0.9 + 0.05
    pen.box(x - 0.14, 0.12, x + 0.14, 0.42, _WHITE)
    pen.box(x - 0.115, 0.145, x + 0.115, 0.395, (150, 208, 244), edge=False)
    pen.box(x - 0.012, 0.14, x + 0.012, 0.4, _WHITE, edge=False)
    pen.box(x - 0.12, 0.258, x + 0.12, 0.282, _WHITE, edge=False)
    _ground(pen, y, (190, 138, 96))
    pen.box(-0.1, y - 0.03, 1.1, y + 0.01, (252, 248, 242))
    pen.oval(0.5, 0.88, 0.4, 0.08, (206, 106, 104))


def _sea(pen: Pen, rng: random.Random, y: float) -> None:
    pen.gradient((92, 200, 220), (28, 112, 172))
    low = y + 0.16
    for x in (0.1, 0.9):
        x += rng.uniform(-0.04, 0.05)
        for k, height in enumerate((0.3, 0.42, 0.26)):
            foot = x + 0.045 * (k - 1)
            leaf = [(foot - 0.02, low + 0.05), (foot + 0.02, low + 0.05), (foot + 0.02 * (k - 1), low - height)]
            pen.polygon(leaf, (44, 150, 110))
    _ground(pen, low, (226, 210, 160))
    for _ in range(4):
        x, top, r = _side(rng) + rng.uniform(-0.06, 0.06), rng.uniform(0.06, 0.45), rng.uniform(0.018, 0.034)
        pen.oval(x, top, r, r, (176, 234, 242))


_DRAW = {
    "beach": _beach,
    "forest": _forest,
    "meadow": _meadow,
    "snow": _snow,
    "desert": _desert,
    "city": _city,
    "room": _room,
    "sea": _sea,
}
