"""Kinds and identities of subjects in the toy world.

An identity consists of attributes that captions omit (colours, pattern, features), so that only a reference shows them.
Identities are split by a hash of their attributes: held-out identities never occur in training data, for any seed.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import asdict, dataclass
from typing import Literal

Split = Literal["train", "held_out"]

KINDS = ("cat", "rabbit", "robot", "bird", "fish", "car", "mushroom", "rocket")
#: Kinds drawn as a character, with a head apart from the body.
CHARACTERS = ("cat", "rabbit", "robot", "bird")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "orange": (243, 134, 38),
    "yellow": (246, 211, 56),
    "green": (46, 160, 78),
    "blue": (41, 98, 214),
    "purple": (132, 68, 196),
    "pink": (244, 124, 180),
    "brown": (124, 80, 48),
    "white": (246, 246, 242),
    "black": (44, 44, 52),
}
PATTERNS = ("plain", "stripes", "dots", "halves", "belly")
FEATURES = ("none", "hat", "scarf")


@dataclass(frozen=True)
class Identity:
    """One individual. ``primary``, ``secondary`` and ``accent`` are keys of `COLORS`, all different."""

    kind: str
    primary: str
    secondary: str
    accent: str
    pattern: str
    #: Colour of the head (of the roof, cap or nose for kinds without a head): ``primary`` or ``secondary``.
    head: str
    feature: str

    @property
    def split(self) -> Split:
        """The split of this identity (a tenth is held out)."""
        return "held_out" if zlib.crc32(self.key.encode()) % 10 == 0 else "train"

    @property
    def key(self) -> str:
        """A stable name, the same in every process: used as the group id of all pictures of this identity."""
        return "-".join(asdict(self).values())


def sample_identity(rng: random.Random, split: Split = "train", kind: str | None = None) -> Identity:
    """Sample an identity of ``kind`` (any kind by default) from one split."""
    while True:
        chosen = kind or rng.choice(KINDS)
        primary, secondary, accent = rng.sample(sorted(COLORS), 3)
        identity = Identity(
            kind=chosen,
            primary=primary,
            secondary=secondary,
            accent=accent,
            pattern=rng.choice(PATTERNS),
            head=rng.choice((primary, secondary)),
            feature=rng.choice(FEATURES),
        )
        if identity.split == split:
            return identity
