"""Captions of scenes: one sentence each.

A style, action, expression or modifier other than the default is always mentioned, so unmentioned ones have the
default. Positions and sizes of single subjects are mentioned half of the time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from components.world.storybook.characters import Act
from components.world.storybook.identities import Identity
from components.world.storybook.places import PLACES
from components.world.storybook.scenes import Scene

_STYLES = {"flat": "", "ink": ", ink drawing", "pixel art": ", pixel art", "lamplight": ", by lamplight at night"}
_WORN = {"none": "", "glasses": "wearing glasses", "crown": "wearing a crown", "umbrella": "with an umbrella"}
_ORDINARY = Act()
_POSITIONS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


@dataclass(frozen=True)
class Told:
    """The attributes of one subject that a caption mentions; colours only in training captions of the base model."""

    kind: str
    act: Act = _ORDINARY
    size: str | None = None
    position: str | None = None
    colors: str | None = None

    @property
    def words(self) -> str:
        named = [
            self.size if self.size != "medium" else "medium-sized",
            self.act.expression if self.act.expression != "calm" else None,
            self.colors,
            self.kind,
        ]
        phrase = " ".join(word for word in named if word)
        article = "an" if phrase[0] in "aeiou" else "a"
        rest = [
            _WORN[self.act.modifier],
            "" if self.act.action == "standing" else self.act.action,
            _POSITIONS[self.position] if self.position else "",
        ]
        return " ".join([article, phrase, *(part for part in rest if part)])


def write_caption(told: Sequence[Told], place: str, style: str = "flat") -> str:
    """One sentence about ``told`` subjects (from left to right), a place and a style."""
    *others, last = [subject.words for subject in told]
    subjects = f"{', '.join(others)} and {last}" if others else last
    return f"{subjects} {PLACES[place]}{_STYLES[style]}"


def caption_of(scene: Scene, rng: random.Random, colors: float = 0.0) -> str:
    """The caption of ``scene``; with the probability ``colors`` it mentions its subjects' colours."""
    colored = rng.random() < colors
    single = len(scene.subjects) == 1
    size = scene.size if single and rng.random() < 0.5 else None
    position = scene.position if single and rng.random() < 0.5 else None
    told = [
        Told(p.identity.kind, p.act, size, position, _colors(p.identity, rng) if colored else None)
        for p in sorted(scene.subjects, key=lambda placed: placed.x)
    ]
    return write_caption(told, scene.place, scene.style)


def _colors(identity: Identity, rng: random.Random) -> str:
    """Colours of the body alone, or with those of the head and pattern."""
    if rng.random() < 0.4:
        return identity.primary
    return f"{identity.primary} and {identity.secondary}"
