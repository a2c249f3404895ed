"""Scenes: subjects with their positions, captions, and images with ground truth."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from components.cut_outs import CutOut, cut_out_with_face
from components.world.identities import Identity, Split, sample_identity
from components.world.places import PLACES, draw_place
from components.world.sprites import View, draw_sprite

#: Position -> horizontal centre of the subject, as a share of the picture's width.
POSITIONS = {"left": 0.33, "middle": 0.5, "right": 0.67}
_POSITION_WORDS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """A subject put into a scene: ``height`` and ``center`` are shares of the picture's size."""

    identity: Identity
    view: View
    height: float
    center: tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """A scene with its caption. References show the first subject.

    ``position`` is that of a single subject, mentioned in the caption or not; None with two subjects.
    """

    subjects: tuple[Placed, ...]
    place: str
    position: str | None
    caption: str
    background_seed: int

    @property
    def target_word(self) -> str:
        return self.subjects[0].identity.kind


@dataclass(frozen=True)
class Rendered:
    """A picture of a scene and the ground truth about its first subject (boxes are x0, y0, x1, y1 in pixels)."""

    picture: Image.Image
    mask: Image.Image
    subject_box: Box
    head_box: Box | None


@dataclass(frozen=True)
class SceneOptions:
    """Probabilities that a caption mentions a position or a colour, and that a scene has two subjects."""

    position: float = 0.5
    color: float = 0.2
    two_subjects: float = 0.06
    kind: str | None = field(default=None)


def random_view(rng: random.Random) -> View:
    return View(pose=rng.uniform(-1, 1), rotation=rng.uniform(-12, 12), flip=rng.random() < 0.5)


def write_caption(kind: str, place: str, position: str | None = None, color: str | None = None) -> str:
    """The caption of a one-subject scene."""
    subject = f"a {color} {kind}" if color else f"a {kind}"
    where = f" {_POSITION_WORDS[position]}" if position else ""
    return f"{subject}{where} {PLACES[place]}"


def sample_scene(
    rng: random.Random, identity: Identity | None = None, split: Split = "train", options: SceneOptions | None = None
) -> Scene:
    """Sample a scene of ``identity`` (by default a random one of ``split``)."""
    options = options or SceneOptions()
    identity = identity or sample_identity(rng, split, options.kind)
    place = rng.choice(sorted(PLACES))
    seed = rng.getrandbits(32)
    if rng.random() < options.two_subjects:
        other = sample_identity(rng, split)
        while other.kind == identity.kind:
            other = sample_identity(rng, split)
        x = rng.choice((0.28, 0.72))
        subjects = tuple(
            Placed(who, random_view(rng), rng.uniform(0.42, 0.5), (at + rng.uniform(-0.02, 0.02), 0.6))
            for who, at in ((identity, x), (other, 1 - x))
        )
        first, second = (identity, other) if x < 0.5 else (other, identity)
        caption = f"a {first.kind} and a {second.kind} {PLACES[place]}"
        return Scene(subjects, place, None, caption, seed)
    spot = rng.choice(sorted(POSITIONS))
    center = (POSITIONS[spot] + rng.uniform(-0.03, 0.03), 0.54 + rng.uniform(-0.04, 0.04))
    subject = Placed(identity, random_view(rng), rng.uniform(0.62, 0.78), center)
    position = spot if rng.random() < options.position else None
    color = identity.primary if rng.random() < options.color else None
    return Scene((subject,), place, spot, write_caption(identity.kind, place, position, color), seed)


def render(scene: Scene, size: int) -> Rendered:
    """Draw ``scene`` at ``size`` x ``size`` pixels."""
    picture = draw_place(scene.place, size, random.Random(scene.background_seed))
    mask, head = Image.new("L", (size, size)), Image.new("L", (size, size))
    for placed in reversed(scene.subjects):
        layers = _place(placed, size)
        picture.paste(layers[0], (0, 0), layers[0].getchannel("A"))
        mask, head = layers[0].getchannel("A"), layers[1]
    solid = mask.point(lambda v: 255 if v > 127 else 0)
    box = solid.getbbox()
    if box is None:
        raise ValueError("the subject lies outside the picture")
    head_box = head.point(lambda v: 255 if v > 127 else 0).getbbox()
    return Rendered(picture, solid, box, head_box)


def _place(placed: Placed, size: int) -> tuple[Image.Image, Image.Image]:
    """The subject alone on a transparent picture of the scene's size, and its head's mask."""
    sprite = draw_sprite(placed.identity, placed.view)
    width, height = sprite.picture.size
    # Narrow and wide subjects cover about the same area, within the picture's height.
    scale = min(placed.height * size / (0.4 * max(width, height) + 0.6 * (width * height) ** 0.5), 0.94 * size / height)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    left = round(placed.center[0] * size - new[0] / 2)
    top = round(placed.center[1] * size - new[1] / 2)
    layers = []
    for source, mode in ((sprite.picture, "RGBA"), (sprite.head, "L")):
        layer = Image.new(mode, (size, size))
        layer.paste(_premultiplied_resize(source, new), (left, top))
        layers.append(layer)
    return layers[0], layers[1]


def _premultiplied_resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize without the dark fringe that transparent black would leave on anti-aliased edges."""
    if picture.mode != "RGBA":
        return picture.resize(size, Image.Resampling.BOX)
    small = np.asarray(picture.convert("RGBa").resize(size, Image.Resampling.BOX))
    return Image.fromarray(small, "RGBa").convert("RGBA")


def draw_reference_picture(identity: Identity, size: int, rng: random.Random) -> CutOut:
    """A reference of ``identity``, cut out on a white square."""
    subject = Placed(identity, random_view(rng), rng.uniform(0.6, 0.78), (0.5, 0.5))
    alone = render(Scene((subject,), "room", None, "", rng.getrandbits(32)), 2 * size)
    return cut_out_with_face(alone.picture, alone.mask, alone.head_box, size)


def draw_reference(identity: Identity, size: int, rng: random.Random) -> Image.Image:
    """The picture of `draw_reference_picture` alone."""
    return draw_reference_picture(identity, size, rng).picture
