"""Types of characters: the stored row, its pictures, their cut-outs, and the vision tokens."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from components.characters.advice import Advice
from components.characters.target_word import Source
from components.cut_outs import CutOut
from components.data.schema import Box
from components.errors import NotFoundError, RealCustomError

#: Maximum number of pictures of a character.
MAX_PICTURES = 4


NO_SUCH_PICTURE = "the character has no such picture; list the existing ones"


class PictureNotFoundError(NotFoundError):
    """The character has no such picture."""


class PictureCountError(RealCustomError):
    """A character would have no picture, or more than the maximum."""


@dataclass(frozen=True)
class Picture:
    """A character's picture without its pixels. Its id does not change when others are removed."""

    id: str
    #: x0, y0, x1, y1 in pixels.
    face: Box | None = None
    #: None for pictures of an earlier release.
    advice: Advice | None = None
    #: Bytes of the picture, its mask and its original in the store.
    size: int = 0


@dataclass(frozen=True)
class Character:
    """A stored character. Ids sort by age."""

    id: str
    owner: str
    #: Seconds since 1970.
    created: float
    name: str
    description: str
    #: The word that names the character in a prompt, and its origin; None for rows of an earlier release.
    target_word: str
    word_source: Source | None
    #: Incremented by every change of the pictures, from 1.
    revision: int
    pictures: tuple[Picture, ...]
    #: Sentences of advice on the pictures.
    advice: list[str]

    def picture(self, identifier: str | None) -> Picture:
        """The picture ``identifier``; by default the first.

        Raises:
            PictureNotFoundError: there is none.
        """
        for picture in self.pictures:
            if identifier in (None, picture.id):
                return picture
        raise PictureNotFoundError(NO_SUCH_PICTURE)


@dataclass(frozen=True)
class Reference:
    """A picture of the subject: RGB, an L mask of its size, 255 on the subject, with face box and advice if known."""

    picture: Image.Image
    mask: Image.Image
    #: x0, y0, x1, y1 in pixels.
    face: Box | None = None
    advice: Advice | None = None
    #: The uploaded file, which is stored as it is; None if it is not known.
    original: bytes | None = None


@dataclass(frozen=True)
class CharacterCutOuts:
    """The model's input: cut-outs of a character's pictures at ``revision``."""

    revision: int
    cut_outs: list[CutOut]


@dataclass(frozen=True)
class SubjectTokens:
    """Vision tokens [n, d], and which of them show the face: bool [n], or None if no face is known."""

    tokens: Tensor
    face: Tensor | None = None


def gathered(pictures: tuple[Picture, ...]) -> list[str]:
    """The advice on all pictures, each sentence once."""
    return list(dict.fromkeys(s for picture in pictures if picture.advice for s in picture.advice.sentences))
