"""Drawing of kinds without limbs, in the frame of characters: origin on the ground, one unit high, y points down."""

from __future__ import annotations

from components.world.storybook.characters import WHITE, Pose, texture
from components.world.storybook.identities import BODIES, COLORS, HEADS, Identity, Rgb
from components.world.storybook.pen import DARK, Pen, arc, mix

_GLASS: Rgb = (190, 228, 246)


def draw_object(pen: Pen, identity: Identity, pose: Pose, body: int) -> None:
    """Draw an object in the current frame; ``body`` is its label."""
    primary, secondary, accent = (COLORS[c] for c in (identity.primary, identity.secondary, identity.accent))
    with pen.label(body):
        _DRAW[identity.kind](pen, identity, pose, primary, secondary, accent)


def _car(pen: Pen, who: Identity, pose: Pose, primary: Rgb, secondary: Rgb, accent: Rgb) -> None:
    wide, tall, roof = 0.5 * BODIES[who.body], HEADS[who.head], COLORS[who.head_color]
    top = -0.36 - 0.26 * tall
    pen.polygon([(-0.34, -0.36), (-0.24, top), (0.17, top), (0.33, -0.36)], roof)
    pen.polygon([(-0.26, -0.37), (-0.19, top + 0.06), (-0.04, top + 0.06), (-0.04, -0.37)], _GLASS, edge=False)
    pen.polygon([(0.02, -0.37), (0.02, top + 0.06), (0.14, top + 0.06), (0.24, -0.37)], _GLASS, edge=False)
    fill = texture(who.pattern, primary, secondary, 0, -0.24, wide, 0.15)
    pen.box(-wide, -0.39, wide, -0.1, fill, round_by=0.08)
    pen.oval(wide - 0.04, -0.28, 0.045, 0.05, (255, 240, 150))
    for x in (-0.29 * wide / 0.5, 0.29 * wide / 0.5):
        pen.oval(x, -0.11, 0.13, 0.13, DARK)
        pen.oval(x, -0.11, 0.065, 0.065, accent, edge=False)
    if who.feature == "scarf":
        pen.box(-0.16, top - 0.06, 0.08, top, accent, round_by=0.02)
    elif who.feature == "bow":
        pen.line([(-0.3, top + 0.1), (-0.3, top - 0.16)], DARK, 0.02)
        pen.polygon([(-0.3, top - 0.17), (-0.3, top - 0.03), (-0.46, top - 0.1)], accent)
    elif who.feature == "boots":
        pen.box(-wide - 0.03, -0.16, wide + 0.03, -0.1, accent, round_by=0.02)


def _fish(pen: Pen, who: Identity, pose: Pose, primary: Rgb, secondary: Rgb, accent: Rgb) -> None:
    tall, fin, y = 0.25 * BODIES[who.body], COLORS[who.head_color], -0.42
    swing = 0.06 * pose.sway
    pen.polygon([(-0.28, y), (-0.58, y - 0.24 + swing), (-0.5, y), (-0.58, y + 0.24 + swing)], secondary)
    pen.polygon([(-0.14, y - 0.8 * tall), (0.02, y - 1.7 * tall * HEADS[who.head]), (0.2, y - 0.8 * tall)], fin)
    pen.polygon([(-0.02, y + 0.8 * tall), (-0.06, y + 1.5 * tall), (0.12, y + 0.8 * tall)], fin)
    pen.oval(0.04, y, 0.4, tall, texture(who.pattern, primary, secondary, -0.02, y, 0.36, tall))
    pen.polygon([(-0.1, y + 0.02), (-0.2, y + 0.12 + swing), (0.02, y + 0.1)], fin)
    pen.oval(0.26, y - 0.06, 0.068, 0.072, WHITE)
    pen.oval(0.27, y - 0.055, 0.046, 0.05, accent, edge=False)
    pen.oval(0.275, y - 0.055, 0.024, 0.028, DARK, edge=False)
    pen.line(arc(0.4, y + 0.05, 0.07, 0.05, 100, 190, 6), DARK, 0.024)
    if who.feature == "scarf":
        pen.polygon(
            [(0.1, y - 0.95 * tall), (0.17, y - 0.93 * tall), (0.17, y + 0.93 * tall), (0.1, y + 0.95 * tall)], accent
        )
    elif who.feature == "bow":
        for side in (-1, 1):
            pen.polygon(
                [(0.1, y - tall - 0.02), (0.1 + side * 0.13, y - tall - 0.1), (0.1 + side * 0.13, y - tall + 0.04)],
                accent,
            )
    elif who.feature == "boots":
        pen.oval(-0.36, y, 0.07, 0.09, accent)


def _mushroom(pen: Pen, who: Identity, pose: Pose, primary: Rgb, secondary: Rgb, accent: Rgb) -> None:
    wide, lean, stem = 0.44 * HEADS[who.head], 0.03 * pose.sway, COLORS[who.head_color]
    foot = 0.17 * BODIES[who.body]
    stem = mix(stem, WHITE, 0.0)
    pen.polygon(
        [
            (-0.75 * foot + lean, -0.5),
            (0.75 * foot + lean, -0.5),
            (foot, -0.06),
            (0.6 * foot, 0),
            (-0.6 * foot, 0),
            (-foot, -0.06),
        ],
        stem,
    )
    if who.feature == "scarf":
        pen.box(-foot, -0.24, foot, -0.15, accent, round_by=0.03)
    elif who.feature == "bow":
        for side in (-1, 1):
            pen.polygon([(0, -0.3), (side * 0.13, -0.37), (side * 0.13, -0.23)], accent)
    elif who.feature == "boots":
        pen.box(-1.15 * foot, -0.08, 1.15 * foot, 0, accent, round_by=0.03)
    cap = [(lean + u, v) for u, v in arc(0, -0.44, wide, 0.46, 180, 360, 22)]
    pen.polygon(
        [*cap, *((lean + u, v) for u, v in arc(0, -0.44, wide, 0.08, 0, 180, 12))],
        texture(who.pattern, primary, secondary, lean, -0.64, wide, 0.27),
    )


def _rocket(pen: Pen, who: Identity, pose: Pose, primary: Rgb, secondary: Rgb, accent: Rgb) -> None:
    wide, nose = 0.19 * BODIES[who.body], COLORS[who.head_color]
    flame = 0.03 * pose.sway
    pen.polygon([(-0.1, -0.16), (-0.07, -0.02), (0, 0.02 + flame), (0.07, -0.02), (0.1, -0.16)], (255, 176, 50))
    for side in (-1, 1):
        pen.polygon(
            [
                (side * wide * 0.8, -0.42),
                (side * (wide + 0.17), -0.12),
                (side * (wide + 0.15), -0.04),
                (side * wide * 0.7, -0.16),
            ],
            secondary,
        )
    peak = -0.8 - 0.26 * HEADS[who.head]
    pen.polygon(
        [
            (-wide * 0.93, -0.72),
            (-wide * 0.6, -0.5 + peak / 2),
            (0, peak),
            (wide * 0.6, -0.5 + peak / 2),
            (wide * 0.93, -0.72),
        ],
        nose,
    )
    hull = [
        (-wide * 0.93, -0.74),
        (wide * 0.93, -0.74),
        (wide * 1.05, -0.45),
        (wide * 0.75, -0.14),
        (-wide * 0.75, -0.14),
        (-wide * 1.05, -0.45),
    ]
    pen.polygon(hull, texture(who.pattern, primary, secondary, 0, -0.44, wide, 0.3))
    pen.oval(0, -0.55, 0.1, 0.1, WHITE)
    pen.oval(0, -0.55, 0.068, 0.068, accent, edge=False)
    if who.feature == "scarf":
        pen.box(-wide, -0.34, wide, -0.26, accent, round_by=0.02)
    elif who.feature == "bow":
        pen.polygon([(0, peak - 0.01), (0, peak - 0.13), (0.15, peak - 0.07)], accent)
    elif who.feature == "boots":
        pen.box(-wide * 0.85, -0.2, wide * 0.85, -0.11, accent, round_by=0.02)


_DRAW = {"car": _car, "fish": _fish, "mushroom": _mushroom, "rocket": _rocket}
