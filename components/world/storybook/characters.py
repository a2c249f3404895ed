"""Drawing of characters: five kinds share head, body, arms and legs, posed by an action.

The frame of a character has its origin between the feet; standing, it is one unit high without ears (y points down).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from components.world.storybook.identities import BODIES, COLORS, HEADS, Identity, Rgb
from components.world.storybook.pen import DARK, Pen, Point, Texture, arc, mix, ring

WHITE: Rgb = (252, 252, 252)
_MOUTH: Rgb = (150, 36, 52)
_BALLOON: Rgb = (232, 58, 66)
_CANOPY: Rgb = (32, 164, 168)
_GOLD: Rgb = (255, 202, 44)
_LENS: Rgb = (206, 240, 252)
_FRAME: Rgb = (24, 26, 40)


@dataclass(frozen=True)
class Pose:
    """The pose of a subject: ``sway`` in [-1, 1] moves limbs and tail, ``tilt`` rotates the head by degrees."""

    sway: float = 0.0
    tilt: float = 0.0
    mirror: bool = False


@dataclass(frozen=True)
class Act:
    """Action, expression and modifier of a character: values of `attributes`."""

    action: str = "standing"
    expression: str = "calm"
    modifier: str = "none"


def draw_character(pen: Pen, identity: Identity, act: Act, pose: Pose, body: int, head: int) -> None:
    """Draw a character in the current frame; ``body`` and ``head`` are the labels of its parts.

    Things that it holds or wears without being part of it are drawn as background.
    """
    look = _Look(identity)
    if act.action == "sleeping":
        _draw_sleeping(pen, look, act, pose, body, head)
        return
    lift = 0.17 if act.action == "jumping" else 0.0
    with pen.frame(0, -lift):
        _draw_upright(pen, look, act, pose, body, head)


class _Look:
    """Colours and measures of an identity."""

    def __init__(self, identity: Identity) -> None:
        self.kind, self.pattern, self.feature = identity.kind, identity.pattern, identity.feature
        self.primary, self.secondary, self.accent = (
            COLORS[c] for c in (identity.primary, identity.secondary, identity.accent)
        )
        self.head = COLORS[identity.head_color]
        self.inner = COLORS[identity.secondary if identity.head_color == identity.primary else identity.primary]
        self.big = HEADS[identity.head]
        self.wide = BODIES[identity.body]
        self.foot = self.accent if identity.feature == "boots" else self.primary

    def texture(self, x: float, y: float, rx: float, ry: float) -> Rgb | Texture:
        return texture(self.pattern, self.primary, self.secondary, x, y, rx, ry)


def texture(pattern: str, base: Rgb, color: Rgb, x: float, y: float, rx: float, ry: float) -> Rgb | Texture:
    """``pattern`` on a shape with centre (x, y) and half extents (rx, ry)."""

    def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        placed: np.ndarray = (x, y) + corners * (rx, ry)
        return placed

    if pattern == "stripes":
        return Texture(base, color, [rectangle(-1.2, at, 1.2, at + 0.36) for at in (-0.86, -0.14, 0.58)])
    if pattern == "dots":
        spots = [(-0.55, -0.55), (0.5, -0.6), (0.0, 0.0), (-0.72, 0.4), (0.7, 0.36), (0.0, 0.78)]
        r = 0.27 * min(rx, ry)
        return Texture(base, color, [ring(x + u * rx, y + v * ry, r, r) for u, v in spots])
    if pattern == "halves":
        return Texture(base, color, [rectangle(-1.2, 0.05, 1.2, 1.2)])
    if pattern == "patch":
        return Texture(base, color, [ring(x, y + 0.12 * ry, 0.6 * rx, 0.68 * ry)])
    return base


def _draw_upright(pen: Pen, look: _Look, act: Act, pose: Pose, body: int, head: int) -> None:
    jumping, sway = act.action == "jumping", pose.sway
    shoulder, hip = 0.15 * look.wide, 0.09 * look.wide
    left, right = _hands(act, shoulder, sway)
    if act.action == "holding a balloon":
        pen.line([right, (0.44, -0.72)], DARK, 0.014)
        pen.oval(0.44, -0.9, 0.15, 0.18, _BALLOON)
        pen.oval(0.39, -0.97, 0.03, 0.045, mix(_BALLOON, WHITE, 0.6), edge=False)
    if act.modifier == "umbrella":
        pen.line([(right[0], right[1] + 0.05), (right[0], -1.1)], DARK, 0.026)
    with pen.label(body):
        _tail(pen, look, sway)
        for side in (-1, 1):
            spread = 0.13 if jumping else 0.015 + 0.02 * abs(sway)
            foot = (side * (hip + spread), -0.06 - (0.05 if jumping else 0.0))
            pen.limb((side * hip, -0.2), foot, 0.068, look.primary)
            pen.oval(foot[0] + side * 0.025, foot[1] + 0.015, 0.085, 0.052, look.foot)
        _torso(pen, look)
        for side, hand in ((-1, left), (1, right)):
            pen.limb((side * shoulder, -0.385), hand, 0.052, look.primary)
        _feature(pen, look)
    _draw_head(pen, look, act, pose, (0.0, -0.66), head)
    if act.action == "waving":
        for radius in (0.1, 0.17):
            pen.line(arc(right[0] + 0.02, right[1], radius, radius, -60, 30), DARK, 0.02)
    if act.modifier == "umbrella":
        _umbrella(pen, right[0] - 0.12)


def _hands(act: Act, shoulder: float, sway: float) -> tuple[Point, Point]:
    """Where the hands are: the one on the left of the picture, the one on the right."""

    def at(side: int, degrees: float, reach: float = 0.21) -> Point:
        turn = math.radians(degrees)
        return side * (shoulder + reach * math.cos(turn)), -0.385 - reach * math.sin(turn)

    if act.action == "jumping":
        left, right = at(-1, 38 + 8 * sway), at(1, 38 - 8 * sway)
    elif act.action == "waving":
        left, right = at(-1, -58 + 8 * sway), at(1, 40 + 6 * sway, 0.27)
    elif act.action == "holding a balloon":
        left, right = at(-1, -58 + 8 * sway), at(1, 8 + 6 * sway, 0.25)
    else:
        left, right = at(-1, -58 + 10 * sway), at(1, -58 - 10 * sway)
    if act.modifier == "umbrella":
        right = at(1, 5, 0.2)
    return left, right


def _torso(pen: Pen, look: _Look) -> None:
    rx, ry = 0.185 * look.wide, 0.205
    fill = look.texture(0, -0.275, rx, ry)
    if look.kind == "robot":
        pen.box(-rx, -0.46, rx, -0.1, fill, round_by=0.03)
    else:
        pen.oval(0, -0.275, rx, ry, fill)


def _tail(pen: Pen, look: _Look, sway: float) -> None:
    rx = 0.185 * look.wide
    if look.kind == "cat":
        tip = (rx + 0.2, -0.36 - 0.06 * sway)
        pen.limb((rx * 0.6, -0.16), (rx + 0.13, -0.18), 0.04, look.primary)
        pen.limb((rx + 0.13, -0.18), tip, 0.04, look.primary)
        pen.oval(*tip, 0.045, 0.05, look.secondary)
    elif look.kind == "rabbit":
        pen.oval(rx + 0.02, -0.17, 0.065, 0.065, look.secondary)


def _feature(pen: Pen, look: _Look) -> None:
    if look.feature == "scarf":
        pen.box(0.04, -0.44, 0.13, -0.22, look.accent, round_by=0.02)
        pen.box(-0.2, -0.47, 0.2, -0.38, look.accent, round_by=0.04)
    elif look.feature == "bow":
        for side in (-1, 1):
            pen.polygon([(0, -0.385), (side * 0.13, -0.45), (side * 0.13, -0.32)], look.accent)
        pen.oval(0, -0.385, 0.035, 0.035, look.accent)


def _draw_head(pen: Pen, look: _Look, act: Act, pose: Pose, center: Point, label: int) -> None:
    with pen.frame(*center, scale=look.big, turn=pose.tilt):
        with pen.label(label):
            _SKULLS[look.kind](pen, look)
            _face(pen, look, act)
        if act.modifier == "glasses":
            _glasses(pen, look)
        if act.modifier == "crown":
            _crown(pen, -0.2 if look.kind != "frog" else -0.27)


def _cat_skull(pen: Pen, look: _Look) -> None:
    for side in (-1, 1):
        pen.polygon([(side * 0.27, -0.37), (side * 0.275, -0.06), (side * 0.06, -0.2)], look.head)
        pen.polygon([(side * 0.24, -0.29), (side * 0.245, -0.12), (side * 0.12, -0.2)], look.inner, edge=False)
    pen.oval(0, 0, 0.29, 0.235, look.head)
    for side in (-1, 1):
        for y, drop in ((0.07, -0.02), (0.11, 0.03)):
            pen.line([(side * 0.2, y), (side * 0.34, y + drop)], DARK, 0.012)


def _rabbit_skull(pen: Pen, look: _Look) -> None:
    for side in (-1, 1):
        pen.oval(side * 0.12, -0.34, 0.075, 0.2, look.head, turn=side * 9)
        pen.oval(side * 0.122, -0.33, 0.036, 0.14, look.inner, turn=side * 9, edge=False)
    pen.oval(0, 0, 0.265, 0.225, look.head)
    pen.oval(0, 0.1, 0.11, 0.075, mix(look.head, WHITE, 0.75), edge=False)


def _bear_skull(pen: Pen, look: _Look) -> None:
    for side in (-1, 1):
        pen.oval(side * 0.2, -0.185, 0.095, 0.095, look.head)
        pen.oval(side * 0.2, -0.185, 0.052, 0.052, look.inner, edge=False)
    pen.oval(0, 0, 0.28, 0.24, look.head)
    pen.oval(0, 0.105, 0.14, 0.1, mix(look.head, (255, 240, 220), 0.7), edge=False)


def _robot_skull(pen: Pen, look: _Look) -> None:
    pen.box(-0.02, -0.36, 0.02, -0.2, (150, 154, 166))
    pen.oval(0, -0.37, 0.05, 0.05, look.accent)
    for side in (-1, 1):
        pen.box(side * 0.29 - 0.04, -0.07, side * 0.29 + 0.04, 0.07, look.inner, round_by=0.02)
    pen.box(-0.27, -0.22, 0.27, 0.21, look.head, round_by=0.06)
    pen.box(-0.22, -0.16, 0.22, 0.16, (226, 232, 238), round_by=0.05, edge=False)


def _frog_skull(pen: Pen, look: _Look) -> None:
    for side in (-1, 1):
        pen.oval(side * 0.14, -0.16, 0.115, 0.115, look.head)
    pen.oval(0, 0.03, 0.3, 0.2, look.head)
    for side in (-1, 1):
        pen.oval(side * 0.21, 0.08, 0.045, 0.032, look.inner, edge=False)


_SKULLS = {
    "cat": _cat_skull,
    "rabbit": _rabbit_skull,
    "bear": _bear_skull,
    "robot": _robot_skull,
    "frog": _frog_skull,
}
#: Where the eyes are: half their distance, and their height.
_EYES = {"cat": (0.125, -0.035), "rabbit": (0.11, -0.045), "bear": (0.115, -0.05), "robot": (0.1, -0.05)}
_EYES["frog"] = (0.14, -0.165)


def _face(pen: Pen, look: _Look, act: Act) -> None:
    gap, y = _EYES[look.kind]
    if act.modifier == "glasses":
        for side in (-1, 1):
            pen.oval(side * gap, y, gap, gap, _LENS, edge=False)
    # Dark lines are invisible on a dark head.
    dark = WHITE if sum(look.head) < 240 and look.kind in ("cat", "frog") else DARK
    asleep, mood = act.action == "sleeping", act.expression
    for side in (-1, 1):
        x = side * gap
        if asleep:
            pen.line(arc(x, y - 0.02, 0.06, 0.05, 20, 160), dark, 0.032)
            continue
        wide = 1.2 if mood == "surprised" else 1.0
        pen.oval(x, y, 0.066 * wide, 0.072 * wide, WHITE)
        pen.oval(x, y + 0.006, 0.046, 0.052, look.accent, edge=False)
        pen.oval(x, y + 0.006, 0.024, 0.028, DARK, edge=False)
        _brow(pen, mood, side, x, y, dark)
    if look.kind in ("cat", "rabbit", "bear"):
        pen.oval(0, 0.045, 0.034, 0.024, DARK if look.kind == "bear" else (226, 96, 120), edge=False)
    if not asleep:
        _mouth(pen, mood, 0.115 if look.kind != "robot" else 0.085, dark, 1.35 if look.kind == "frog" else 1.0)
    if mood == "sad" and not asleep:
        pen.oval(gap + 0.055, y + 0.12, 0.03, 0.048, (86, 170, 244))


def _brow(pen: Pen, mood: str, side: int, x: float, y: float, color: Rgb) -> None:
    if mood == "angry":
        pen.line([(x + side * 0.08, y - 0.13), (x - side * 0.07, y - 0.055)], color, 0.034)
    elif mood == "sad":
        pen.line([(x + side * 0.08, y - 0.075), (x - side * 0.06, y - 0.125)], color, 0.024)
    elif mood == "surprised":
        pen.line(arc(x, y - 0.08, 0.065, 0.05, 205, 335, 6), color, 0.022)


def _mouth(pen: Pen, mood: str, y: float, color: Rgb, wide: float) -> None:
    if mood == "happy":
        pen.polygon(arc(0, y - 0.025, 0.095 * wide, 0.095, 0, 180), _MOUTH, edge=False)
        pen.polygon(arc(0, y + 0.035, 0.045 * wide, 0.03, 0, 360, 14), (244, 120, 130), edge=False)
    elif mood == "sad":
        pen.line(arc(0, y + 0.055, 0.075 * wide, 0.06, 205, 335, 7), color, 0.026)
    elif mood == "surprised":
        pen.oval(0, y + 0.02, 0.042 * wide, 0.06, _MOUTH, edge=False)
    elif mood == "angry":
        zigzag = [(-0.09, 0.04), (-0.045, 0.005), (0.0, 0.04), (0.045, 0.005), (0.09, 0.04)]
        pen.line([(u * wide, y + v) for u, v in zigzag], color, 0.026)
    else:
        pen.line(arc(0, y - 0.035, 0.06 * wide, 0.05, 35, 145, 6), color, 0.022)


def _glasses(pen: Pen, look: _Look) -> None:
    gap, y = _EYES[look.kind]
    reach = gap - 0.005
    for side in (-1, 1):
        pen.line(ring(side * gap, y, reach, reach)[[*range(28), 0]], _FRAME, 0.028)
        pen.line([(side * (gap + reach), y), (side * 0.28, y - 0.04)], _FRAME, 0.028)
    pen.line([(-gap + reach, y), (gap - reach, y)], _FRAME, 0.03)


def _crown(pen: Pen, y: float) -> None:
    top = [(-0.17, -0.17), (-0.085, -0.075), (0.0, -0.2), (0.085, -0.075), (0.17, -0.17)]
    pen.polygon([(-0.15, y + 0.05), *((u, y + v) for u, v in top), (0.15, y + 0.05)], _GOLD)
    pen.oval(0, y - 0.01, 0.03, 0.03, (220, 40, 70), edge=False)


def _umbrella(pen: Pen, x: float) -> None:
    canopy = arc(x, -1.06, 0.46, 0.34, 180, 360, 19)
    scallops = [point for i in range(4) for point in arc(x + 0.345 - 0.23 * i, -1.06, 0.115, 0.05, 0, -180, 5)]
    pen.polygon([*canopy, *scallops], _CANOPY)
    middle = arc(x, -1.06, 0.16, 0.34, 180, 360, 13)
    pen.polygon(middle, mix(_CANOPY, WHITE, 0.55), edge=False)


def _draw_sleeping(pen: Pen, look: _Look, act: Act, pose: Pose, body: int, head: int) -> None:
    with pen.label(body):
        rx, ry = 0.31, 0.185 * look.wide
        if look.kind == "cat":
            pen.limb((0.42, -0.08), (0.56, -0.2 - 0.04 * pose.sway), 0.04, look.primary)
            pen.oval(0.56, -0.2 - 0.04 * pose.sway, 0.045, 0.05, look.secondary)
        elif look.kind == "rabbit":
            pen.oval(0.5, -0.16, 0.065, 0.065, look.secondary)
        fill = look.texture(0.18, -ry, rx, ry)
        if look.kind == "robot":
            pen.box(-0.12, -2 * ry, 0.48, -0.01, fill, round_by=0.03)
        else:
            pen.oval(0.18, -ry, rx, ry, fill)
        pen.oval(0.42, -0.045, 0.095, 0.052, look.foot)
        pen.oval(0.02, -0.045, 0.09, 0.048, look.primary)
        if look.feature in ("scarf", "bow"):
            pen.box(-0.02, -0.1, 0.16, -0.01, look.accent, round_by=0.035)
    _draw_head(pen, look, act, pose, (-0.2, -0.235 * look.big), head)
    tall = 0.72 if look.kind != "rabbit" else 0.86
    for x, y, size in ((0.1, -tall + 0.12, 0.075), (0.24, -tall - 0.03, 0.1)):
        flip = -1 if pose.mirror else 1
        u, v = flip * size, size
        corners = [(x - u / 2, y - v / 2), (x + u / 2, y - v / 2), (x - u / 2, y + v / 2), (x + u / 2, y + v / 2)]
        pen.line(corners, (64, 96, 200), 0.026)
