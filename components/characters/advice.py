"""Advice on improving a reference picture. Pure functions of the picture and its subject mask.

The thresholds were set on photographs of everyday objects and the same photographs blurred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

#: Longer side in pixels at which sharpness and clutter are measured.
_VIEW = 256
#: Sharp subjects have edges (99th percentile of the gradient, per pixel, of 1) above this.
_SHARP = 0.1
#: Plain backgrounds have a mean gradient below this.
_PLAIN = 0.05
#: A subject should fill this share of its picture.
_SHARE = 0.1
#: A mask of more than this share means that subject and background could not be told apart.
_EVERYTHING = 0.98
_NOT_FOUND = (
    "No subject stands out from the background: use a picture of the subject alone, or say where it is with a box or "
    "a mask."
)
#: Size in pixels of the filter that grows the mask, so that the subject's own edge is not background.
_EDGE = 7


@dataclass(frozen=True)
class Advice:
    """Measurements of a picture as a reference, and advice on improving it."""

    #: Size of the picture, and the longer side of the subject's box, in pixels.
    width: int
    height: int
    subject_pixels: int
    #: The share of the picture that the subject covers; 0, or nearly 1, means that no subject was found.
    subject_share: float
    #: How steep the subject's edges are, and how uneven its background is, in [0, 1].
    sharpness: float
    clutter: float
    #: Whether a face was found; None if none was searched for.
    face_found: bool | None
    #: Sentences of advice, the most important first; empty if there is none.
    sentences: tuple[str, ...]


def advise(
    picture: Image.Image,
    mask: Image.Image,
    reference_size: int,
    face_found: bool | None = None,
    searched: tuple[int, int, int, int] | None = None,
    stated: bool = False,
) -> Advice:
    """Measure a picture and give advice.

    Args:
        picture: RGB.
        mask: L of the same size, 255 on the subject; a full or empty mask means that no subject was found.
        reference_size: side in pixels of the model's reference input.
        searched: the box in which the subject was searched for; by default the whole picture. A mask that fills it
            means that the subject could not be told from the background.
        stated: the mask was not found but came with the picture.
    """
    pixels, share = subject_pixels(mask), subject_share(mask)
    sharp, uneven = sharpness(picture, mask), clutter(picture, mask)
    if not stated and not 0 < subject_share(mask.crop(searched) if searched else mask) < _EVERYTHING:
        sentences = [_NOT_FOUND]
    else:
        sentences = _sentences(pixels, share, sharp, uneven, reference_size)
    return Advice(*picture.size, pixels, share, sharp, uneven, face_found, tuple(sentences))


def _sentences(pixels: int, share: float, sharp: float, uneven: float, reference_size: int) -> list[str]:
    advice = []
    if pixels < reference_size:
        advice.append(f"The subject is {pixels} pixels large: at least {reference_size} would show its details.")
    if sharp < _SHARP:
        advice.append("The subject is blurred: use a sharper picture.")
    if share < _SHARE:
        advice.append(f"The subject fills {share:.0%} of the picture: move closer or crop.")
    if uneven > _PLAIN:
        advice.append("The background is busy: a plain one makes the subject easier to separate.")
    return advice


def subject_pixels(mask: Image.Image) -> int:
    """The longer side of the subject's box in pixels; 0 without a subject."""
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    return max(right - left, bottom - top)


def subject_share(mask: Image.Image) -> float:
    """The share of the picture that the subject covers, in [0, 1]."""
    return float(np.asarray(mask, np.float32).mean() / 255)


def sharpness(picture: Image.Image, mask: Image.Image) -> float:
    """How steep the steepest edges in the subject's box are, in [0, 1]; a blurred subject stays below 0.1."""
    subject = picture.crop(mask.getbbox())
    subject.thumbnail((_VIEW, _VIEW))
    return float(np.percentile(_gradient(subject), 99))


def clutter(picture: Image.Image, mask: Image.Image) -> float:
    """The mean gradient of the background, in [0, 1]; 0 for a plain background, or none."""
    view = picture.copy()
    view.thumbnail((_VIEW, _VIEW))
    subject = mask.resize(view.size).filter(ImageFilter.MaxFilter(_EDGE))
    background = np.asarray(subject) == 0
    return float(_gradient(view)[background].mean()) if background.any() else 0.0


def _gradient(picture: Image.Image) -> NDArray[np.float32]:
    """Length [h, w] of the brightness gradient, brightness in [0, 1]."""
    grey = np.asarray(picture.convert("L"), np.float32) / 255
    if min(grey.shape) < 2:
        return np.zeros_like(grey)
    down, right = np.gradient(grey)
    return np.hypot(down, right)
