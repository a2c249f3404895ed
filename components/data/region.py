"""Segmentation of the subject without a given mask: GrabCut, or a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.cut_outs import clip_mask
from components.data.decode import Decoded
from components.data.schema import Box
from components.errors import ConfigError

#: Width of the border that is background when no box is given, as a share of the picture's sides.
BORDER = 0.04
#: Plausible shares of a region in the box; beyond them the whole box is used.
PLAUSIBLE = (0.02, 0.98)
#: Separate parts smaller than this share of the largest one are removed as noise.
_SPECK = 0.1
#: Longer side in pixels at which GrabCut runs, and its iterations.
_WORKING_SIDE = 160
_ROUNDS = 3


#: Maps an RGB picture, and the subject's box if known, to a mask (L, 255 on the subject).
RegionFinder = Callable[[Image.Image, Box | None], Image.Image]


@lru_cache(maxsize=1)
def region_finder(kind: Literal["grabcut", "rembg"]) -> RegionFinder:
    """The finder that `data.region` names; a network is loaded once for each process.

    Raises:
        ConfigError: the extra ``rembg`` is not installed.
    """
    return subject_mask if kind == "grabcut" else NetworkRegion(_rembg_session())


def find_mask(decoded: Decoded, kind: Literal["grabcut", "rembg"], box: Box | None = None) -> Image.Image:
    """Mask of the subject (L, 255 on it) inside ``box``: of the alpha channel, or found as `data.region` says.

    Raises:
        ConfigError: as `region_finder`.
    """
    if decoded.mask is not None:
        mask = decoded.mask if box is None else clip_mask(decoded.mask, box)
        if mask.getbbox() is not None:
            return mask
    return region_finder(kind)(decoded.picture, box)


class Session(Protocol):
    """The interface of rembg's sessions: RGB picture to masks (L) of its size, the subject's first."""

    def predict(self, img: Image.Image) -> list[Image.Image]: ...


class NetworkRegion:
    """Finds subjects with a segmentation network."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, picture: Image.Image, box: Box | None = None) -> Image.Image:
        """As `subject_mask`; the network's input is the picture cropped to ``box``."""
        area = box or (0, 0, *picture.size)
        found = self._session.predict(picture.crop(area))[0].convert("L").point(_binary)
        share = (np.asarray(found) > 0).mean()
        mask = Image.new("L", picture.size)
        mask.paste(found if PLAUSIBLE[0] <= share <= PLAUSIBLE[1] else 255, area)
        return mask


def _rembg_session() -> Any:
    try:
        from rembg import new_session
    except ImportError:
        raise ConfigError("data.region=rembg needs the extra 'rembg': pip install -e '.[rembg]'") from None
    return new_session("u2net")


def subject_mask(picture: Image.Image, box: Box | None = None) -> Image.Image:
    """Mask of the subject (L, 255 on it) in an RGB ``picture``, inside ``box`` if one is given.

    If the region found is not plausible, the mask is the whole box (or picture). Deterministic.
    """
    scale = min(1.0, _WORKING_SIDE / max(picture.size))
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    area = _scaled(box, scale, small.size) if box else _without_border(small.size)
    region = _without_specks(_grab_cut(np.asarray(small), area))
    share = region.sum() / max(1, (area[2] - area[0]) * (area[3] - area[1]))
    if not PLAUSIBLE[0] <= share <= PLAUSIBLE[1]:
        whole = Image.new("L", picture.size)
        whole.paste(255, box or (0, 0, *picture.size))
        return whole
    mask = Image.fromarray(region.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    return mask.point(_binary)


def _binary(value: int) -> int:
    return 255 if value > 127 else 0


def _grab_cut(pixels: NDArray[np.uint8], area: Box) -> NDArray[np.bool_]:
    """Foreground pixels in ``area`` by GrabCut; none if nothing lies outside of it."""
    labels = np.full(pixels.shape[:2], cv2.GC_BGD, np.uint8)
    x0, y0, x1, y1 = area
    labels[y0:y1, x0:x1] = cv2.GC_PR_FGD
    if (labels == cv2.GC_BGD).all() or (labels == cv2.GC_PR_FGD).all():
        return np.zeros(pixels.shape[:2], bool)
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(pixels[:, :, ::-1])
    try:
        cv2.grabCut(bgr, labels, (0, 0, 1, 1), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few distinct colours for two colour models
        return np.zeros(pixels.shape[:2], bool)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _without_specks(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, parts, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    sizes = facts[1:, cv2.CC_STAT_AREA]
    if count < 3:
        return region
    kept = 1 + np.flatnonzero(sizes >= _SPECK * sizes.max())
    return np.isin(parts, kept)


def _scaled(box: Box, scale: float, size: tuple[int, int]) -> Box:
    x0, y0 = (min(int(v * scale), limit - 1) for v, limit in zip(box[:2], size, strict=True))
    x1, y1 = (min(int(np.ceil(v * scale)), limit) for v, limit in zip(box[2:], size, strict=True))
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _without_border(size: tuple[int, int]) -> Box:
    x, y = (max(1, round(BORDER * side)) for side in size)
    return x, y, size[0] - x, size[1] - y
