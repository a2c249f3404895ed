"""What a character is: a row with its pictures, what the model is shown of it, and what it makes of that."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from components.characters.advice import Advice
from components.characters.target_word import Source
from components.data.schema import Box
from components.errors import NotFoundError, RealCustomError
from components.pictures import CutOut

#: Most pictures of a character that a service takes.
MAX_PICTURES = 4


class PictureNotFoundError(NotFoundError):
    """The character has no such picture."""


class PictureCountError(RealCustomError):
    """A character would have no picture left, or more than it may."""


@dataclass(frozen=True)
class Picture:
    """What is known of a character's picture. Its id stays, whatever becomes of the others."""

    id: str
    #: x0, y0, x1, y1 in pixels.
    face: Box | None = None
    #: None for pictures of an earlier release.
    advice: Advice | None = None


@dataclass(frozen=True)
class Character:
    """One row. Ids sort by age."""

    id: str
    owner: str
    #: Seconds since 1970.
    created: float
    name: str
    description: str
    #: The word that stands for the character in a prompt, and where it comes from; None in an earlier release.
    target_word: str
    word_source: Source | None
    #: Counts the changes of its pictures, from 1.
    revision: int
    pictures: tuple[Picture, ...]
    #: What would make the pictures better references, one sentence each.
    advice: list[str]


@dataclass(frozen=True)
class Reference:
    """One picture of the subject: RGB, an L mask of its size, 255 on the subject, and what else is known of it."""

    picture: Image.Image
    mask: Image.Image
    #: x0, y0, x1, y1 in pixels.
    face: Box | None = None
    advice: Advice | None = None


@dataclass(frozen=True)
class Portraits:
    """What the model looks at: the cut-outs of a character's pictures as they were at ``revision``."""

    revision: int
    cut_outs: list[CutOut]


@dataclass(frozen=True)
class SubjectTokens:
    """Vision tokens [n, d], and which of them show the face: bool [n], or None where no face is known."""

    tokens: Tensor
    face: Tensor | None = None


def gathered(pictures: tuple[Picture, ...]) -> list[str]:
    """The advice on all pictures, each sentence once."""
    return list(dict.fromkeys(s for picture in pictures if picture.advice for s in picture.advice.sentences))
