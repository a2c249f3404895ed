"""A description of a character that its pictures suggest: what it is, its main colours, and what stands out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from components.characters.character import Reference

#: Longer side in pixels at which colours are counted.
_VIEW = 128
#: Pixels by which the mask is shrunk, so that the edge's mixed colours are not counted.
_EDGE = 2
#: The least share of the subject of a main colour, of a vivid detail, and of any other detail.
_MAIN, _DETAIL, _PLAIN_DETAIL = 0.2, 0.03, 0.12
_MOST_MAIN = 2
#: Distance of a colour from grey in CIELAB, from which it is vivid.
_VIVID = 30.0
#: Names of colours, as sRGB of their typical members; several members share a name.
_NAMES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("black", (20, 20, 22)),
    ("dark grey", (75, 75, 78)),
    ("grey", (135, 135, 138)),
    ("light grey", (195, 195, 197)),
    ("white", (245, 245, 243)),
    ("red", (205, 35, 40)),
    ("dark red", (120, 20, 28)),
    ("orange", (240, 130, 30)),
    ("yellow", (245, 212, 45)),
    ("olive", (115, 115, 45)),
    ("green", (50, 155, 70)),
    ("dark green", (25, 85, 45)),
    ("light green", (150, 215, 120)),
    ("teal", (25, 145, 145)),
    ("light blue", (140, 195, 235)),
    ("blue", (40, 95, 210)),
    ("dark blue", (25, 40, 100)),
    ("purple", (130, 65, 195)),
    ("pink", (244, 130, 180)),
    ("pink", (250, 195, 210)),
    ("magenta", (200, 40, 140)),
    ("brown", (120, 78, 45)),
    ("dark brown", (70, 45, 30)),
    ("tan", (195, 155, 110)),
    ("beige", (228, 210, 178)),
)


def propose_description(references: Sequence[Reference], word: str) -> str:
    """A noun phrase of the subject's word, main colours and vivid details, such as "a teal and white robot with orange
    details"; the word alone where the pictures show no subject.

    Args:
        word: the target word, a noun.
    """
    shares = color_shares(references)
    main = [name for name, share in shares.items() if share >= _MAIN][:_MOST_MAIN] or list(shares)[:1]
    least = {name: _DETAIL if name in _vivid_names() else _PLAIN_DETAIL for name in shares}
    detail = next((name for name, share in shares.items() if name not in main and share >= least[name]), None)
    phrase = " ".join(filter(None, (" and ".join(main), word)))
    described = f"{_article(phrase)} {phrase}"
    return described if detail is None else f"{described} with {detail} details"


@cache
def _vivid_names() -> frozenset[str]:
    lab = _lab(np.array([[rgb for _, rgb in _NAMES]], np.uint8))[0]
    chroma = np.linalg.norm(lab[:, 1:], axis=1)
    return frozenset(name for (name, _), value in zip(_NAMES, chroma, strict=True) if value > _VIVID)


def color_shares(references: Sequence[Reference]) -> dict[str, float]:
    """The names of the subject's colours, and their shares of it in the mean of the pictures, the largest first."""
    typical = _lab(np.array([[rgb for _, rgb in _NAMES]], np.uint8))[0]
    shares: Counter[str] = Counter()
    seen = [pixels for pixels in map(_subject, references) if len(pixels)]
    for pixels in seen:
        distance = np.linalg.norm(pixels[:, None] - typical[None], axis=2)
        nearest, counts = np.unique(distance.argmin(1), return_counts=True)
        for index, count in zip(nearest, counts, strict=True):
            shares[_NAMES[index][0]] += count / len(pixels) / len(seen)
    return {name: float(share) for name, share in shares.most_common()}


def _subject(reference: Reference) -> NDArray[np.float32]:
    """The subject's pixels in CIELAB, [n, 3]."""
    scale = min(1.0, _VIEW / max(reference.picture.size))
    size = tuple(max(1, round(side * scale)) for side in reference.picture.size)
    picture = np.asarray(reference.picture.convert("RGB").resize(size))  # type: ignore[arg-type]
    mask = (np.asarray(reference.mask.convert("L").resize(size)) > 127).astype(np.uint8)  # type: ignore[arg-type]
    inside = cv2.erode(mask, np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8), borderValue=1)
    chosen = inside if inside.any() else mask
    return _lab(picture)[chosen > 0]


def _lab(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB of sRGB, [h, w, 3]: L in [0, 100], a and b in about [-128, 127]."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _article(phrase: str) -> str:
    return "an" if phrase[:1].lower() in "aeiou" else "a"
