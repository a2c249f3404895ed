"""Scenes of the storybook world: subjects with actions, place and style; and images with ground truth."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import cv2
import numpy as np

from components.world.storybook.attributes import ACTIONS, EXPRESSIONS, MODIFIERS, POSITIONS, SIZES, STYLES
from components.world.storybook.characters import Act, Pose, draw_character
from components.world.storybook.identities import Identity, Split, sample_identity
from components.world.storybook.objects import draw_object
from components.world.storybook.pen import BODY, HEAD, LABELS_PER_SUBJECT, SUPERSAMPLING, Pen
from components.world.storybook.places import PLACES, draw_place
from components.world.storybook.styles import LINES, finish

SIZE = 128
#: Size of a long subject, as a share of that of an upright one.
_LONG = 0.82
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """A subject in a scene: ``height`` of a standing one, ``x`` of its middle, ``ground`` under its feet (shares)."""

    identity: Identity
    act: Act
    pose: Pose
    height: float
    x: float
    ground: float


@dataclass(frozen=True)
class Scene:
    """A scene. References show the first subject; ``position`` and ``size`` are None with several subjects."""

    subjects: tuple[Placed, ...]
    place: str
    style: str
    position: str | None
    size: str | None
    background_seed: int


@dataclass(frozen=True)
class Rendered:
    """``picture`` uint8 [s, s, 3], ``masks`` bool [subjects, s, s], and boxes (x0, y0, x1, y1 in pixels).

    A mask covers the visible part of the identity itself, without modifiers.
    """

    picture: np.ndarray
    masks: np.ndarray
    boxes: tuple[Box, ...]
    head_boxes: tuple[Box | None, ...]


@dataclass(frozen=True)
class SceneOptions:
    """Probability of several subjects, and fixed values for ``style`` and ``act`` instead of sampled ones."""

    several: float = 0.25
    style: str | None = None
    act: Act | None = None


def sample_act(rng: random.Random, identity: Identity) -> Act:
    """Sample the act of a subject; objects only stand."""
    if not identity.is_character:
        return Act()
    action = rng.choice(ACTIONS[1:]) if rng.random() < 0.6 else "standing"
    expression = rng.choice(EXPRESSIONS[1:]) if rng.random() < 0.6 and action != "sleeping" else "calm"
    modifier = rng.choice(MODIFIERS[1:]) if rng.random() < 0.4 else "none"
    if (modifier == "umbrella" and action not in ("standing", "jumping")) or (
        modifier == "glasses" and action == "sleeping"
    ):
        modifier = "none"
    return Act(action, expression, modifier)


def sample_pose(rng: random.Random) -> Pose:
    return Pose(sway=rng.uniform(-1, 1), tilt=rng.uniform(-7, 7), mirror=rng.random() < 0.5)


def sample_scene(
    rng: random.Random, identity: Identity | None = None, split: Split = "train", options: SceneOptions | None = None
) -> Scene:
    """Sample a scene of ``identity`` (by default a random one of ``split``)."""
    options = options or SceneOptions()
    identity = identity or sample_identity(rng, split)
    place = rng.choice(sorted(PLACES))
    style = options.style or (rng.choice(STYLES[1:]) if rng.random() < 0.6 else "flat")
    seed = rng.getrandbits(32)
    if rng.random() < options.several:
        return Scene(_group(rng, identity, split), place, style, None, None, seed)
    position, size = rng.choice(sorted(POSITIONS)), rng.choice(sorted(SIZES))
    act = options.act or sample_act(rng, identity)
    height = SIZES[size] * rng.uniform(0.95, 1.05)
    ground = rng.uniform(0.88, 0.94)
    x = POSITIONS[position] + rng.uniform(-0.03, 0.03)
    placed = _inwards(Placed(identity, act, sample_pose(rng), height, x, ground))
    return Scene((placed,), place, style, position, size, seed)


def _inwards(placed: Placed) -> Placed:
    """Mirror and shift a subject so that it stays in the picture with what it holds."""
    pose = placed.pose
    if placed.act.action in ("waving", "holding a balloon") or placed.act.modifier == "umbrella":
        pose = replace(pose, mirror=placed.x > 0.5 if abs(placed.x - 0.5) > 0.1 else pose.mirror)
    reach = 0.5 * placed.height * (_LONG if is_long(placed) else 0.62)
    return replace(placed, pose=pose, x=min(max(placed.x, reach), 1 - reach))


def is_long(placed: Placed) -> bool:
    """Whether a subject is wider than high; it is drawn smaller, to cover a similar area."""
    return placed.act.action == "sleeping" or placed.identity.kind in ("car", "fish")


def _group(rng: random.Random, identity: Identity, split: Split) -> tuple[Placed, ...]:
    """Two or three subjects of different kinds, side by side; ``identity`` is the first, at any position."""
    count = 3 if rng.random() < 0.3 else 2
    members = [identity]
    while len(members) < count:
        members.append(sample_identity(rng, split, other_than=[m.kind for m in members]))
    columns = [0.27, 0.73] if count == 2 else [0.18, 0.5, 0.82]
    rng.shuffle(columns)
    height = rng.uniform(0.46, 0.5) if count == 2 else rng.uniform(0.36, 0.39)
    placed = []
    for who, x in zip(members, columns, strict=True):
        acting = count == 2 and who.is_character and rng.random() < 0.5
        action = rng.choice(("waving", "jumping", "sleeping")) if acting else "standing"
        placed.append(
            Placed(who, Act(action), sample_pose(rng), height, x + rng.uniform(-0.02, 0.02), rng.uniform(0.86, 0.93))
        )
    return tuple(placed)


def render(scene: Scene, size: int = SIZE) -> Rendered:
    """Draw ``scene`` at ``size`` x ``size`` pixels (a multiple of 4)."""
    lines = LINES[scene.style]
    pen = Pen(size, lines.place)
    draw_place(pen, scene.place, random.Random(scene.background_seed))
    pen.lines = lines.subject
    for index, placed in enumerate(scene.subjects):
        _draw(pen, placed, LABELS_PER_SUBJECT * index)
    first = scene.subjects
    lamp = (sum(p.x for p in first) / len(first), first[0].ground - 0.5 * first[0].height)
    picture = finish(pen.canvas, scene.style, size, lamp)
    labels = pen.labels[SUPERSAMPLING // 2 :: SUPERSAMPLING, SUPERSAMPLING // 2 :: SUPERSAMPLING]
    masks = np.stack([(labels + 1) // LABELS_PER_SUBJECT == index + 1 for index in range(len(first))])
    boxes = [_box(mask) for mask in masks]
    if any(box is None for box in boxes):
        raise ValueError("a subject lies outside the picture")
    heads = [_box(labels == LABELS_PER_SUBJECT * index + HEAD) for index in range(len(first))]
    return Rendered(picture, masks, tuple(b for b in boxes if b), tuple(heads))


def _draw(pen: Pen, placed: Placed, label: int) -> None:
    who, height = placed.identity, placed.height
    shadow = 0.4 if placed.act.action == "sleeping" or who.kind == "car" else 0.24
    pen.shade(placed.x, placed.ground, shadow * height, 0.05 * height, 0.28)
    with pen.frame(placed.x, placed.ground, scale=_fitting(placed), mirror=placed.pose.mirror):
        if who.is_character:
            draw_character(pen, who, placed.act, placed.pose, label + BODY, label + HEAD)
        else:
            draw_object(pen, who, placed.pose, label + BODY)


def _fitting(placed: Placed) -> float:
    """The height, reduced if an umbrella, a crown, long ears or a jump would leave the picture."""
    tall = 1.0
    if placed.identity.kind == "rabbit":
        tall = 1.3
    elif placed.identity.is_character:
        tall = 1.1
    if placed.act.modifier == "umbrella":
        tall = 1.42
    if placed.act.action == "jumping":
        tall += 0.17
    height = placed.height * (_LONG if is_long(placed) else 1.0)
    return min(height, (placed.ground - 0.01) / tall)


def _box(mask: np.ndarray) -> Box | None:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return (x, y, x + width, y + height) if width else None
