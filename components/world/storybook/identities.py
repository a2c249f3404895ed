"""Kinds and identities of subjects in the storybook world, whose appearance captions may omit.

An identity consists of the attributes that all pictures of an individual share: colours, pattern, features and
proportions. Identities are split by a hash of their attributes: held-out identities never occur in training data,
for any seed.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Split = Literal["train", "held_out"]
Rgb = tuple[int, int, int]

#: Kinds with head, limbs and face, which have actions, expressions and modifiers.
CHARACTERS = ("cat", "rabbit", "bear", "robot", "frog")
OBJECTS = ("car", "fish", "mushroom", "rocket")
KINDS = CHARACTERS + OBJECTS

COLORS: dict[str, Rgb] = {
    "red": (219, 50, 54),
    "orange": (245, 140, 40),
    "yellow": (250, 214, 60),
    "green": (62, 168, 84),
    "blue": (48, 108, 222),
    "purple": (138, 76, 200),
    "pink": (247, 138, 186),
    "brown": (136, 88, 54),
    "white": (248, 248, 244),
    "black": (54, 54, 64),
}
PATTERNS = ("plain", "stripes", "dots", "halves", "patch")
FEATURES = ("none", "scarf", "bow", "boots")
#: Relative sizes of the head and of the body's width.
HEADS = {"small": 0.88, "regular": 1.0, "large": 1.12}
BODIES = {"slim": 0.86, "regular": 1.0, "round": 1.2}


@dataclass(frozen=True)
class Identity:
    """One individual. ``primary``, ``secondary`` and ``accent`` are keys of `COLORS`, all different."""

    kind: str
    #: Colour of body and limbs.
    primary: str
    #: Colour of the pattern, and of the inside of ears or the like.
    secondary: str
    #: Colour of eyes and feature.
    accent: str
    pattern: str
    feature: str
    #: Colour of the head (of the roof, cap or nose cone for kinds without one): ``primary`` or ``secondary``.
    head_color: str
    #: Keys of `HEADS` and `BODIES`.
    head: str
    body: str

    @property
    def split(self) -> Split:
        """The split of this identity (a tenth is held out)."""
        return "held_out" if zlib.crc32(self.key.encode()) % 10 == 0 else "train"

    @property
    def key(self) -> str:
        """A stable name, the same in every process: the group id of all pictures of this identity."""
        return "-".join(asdict(self).values())

    @property
    def is_character(self) -> bool:
        return self.kind in CHARACTERS


def sample_kind(rng: random.Random) -> str:
    """Sample a kind; 70 % are characters."""
    return rng.choice(CHARACTERS if rng.random() < 0.7 else OBJECTS)


def sample_identity(
    rng: random.Random, split: Split = "train", kind: str | None = None, other_than: Sequence[str] = ()
) -> Identity:
    """Sample an identity of ``kind`` (by default any kind not in ``other_than``) from one split."""
    while True:
        chosen = kind or sample_kind(rng)
        primary, secondary, accent = rng.sample(sorted(COLORS), 3)
        identity = Identity(
            kind=chosen,
            primary=primary,
            secondary=secondary,
            accent=accent,
            pattern=rng.choice(PATTERNS),
            feature=rng.choice(FEATURES),
            head_color=rng.choice((primary, primary, secondary)),
            head=rng.choice(sorted(HEADS)),
            body=rng.choice(sorted(BODIES)),
        )
        if identity.split == split and (kind or chosen not in other_than):
            return identity
