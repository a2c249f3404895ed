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
from components.data.boundary_connectivity import subject_evidence
from components.data.decode import Decoded
from components.data.schema import Box
from components.errors import ConfigError

#: Width of the border in which a subject that is not cut off does not lie, as a share of the picture's sides.
BORDER = 0.04
#: A subject that the border cuts off meets this share of the border, this share of a side, and less of both sides.
_CUT_OFF, _CUT_SIDE, _BOTH_SIDES = (0.02, 0.45), 0.05, 0.4
#: Plausible shares of a region in the box; beyond them the whole box is used.
PLAUSIBLE = (0.02, 0.98)
#: Separate parts smaller than this share of the largest one are removed as noise, and parts at the border that are
#: farther from it, as a share of the longer side, as other things.
_SPECK, _APART = 0.1, 0.05
#: Holes smaller than this share of the subject are filled, larger ones if their colour (CIELAB) is farther than this
#: from all of the background's.
_PINHOLE, _HOLE_COLOR = 0.02, 12.0
#: A subject cannot be told from the background if the mean change of colour (CIELAB) across its outline is smaller than
#: this, and its median colour differs less than that from the background's, as it does however blurred the picture is.
_OUTLINE, _COLOR = 4.0, 20.0
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

    Without a box the subject may be cut off by the border. If no plausible region stands out, the mask is the whole box
    (or picture). Deterministic.
    """
    scale = min(1.0, _WORKING_SIDE / max(picture.size))
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pixels = np.asarray(small)
    area = _scaled(box, scale, small.size) if box else (0, 0, *small.size)
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    region = _cut(pixels, lab, _box_labels(pixels, area)) if box else _unframed(pixels, lab)
    share = region.sum() / max(1, (area[2] - area[0]) * (area[3] - area[1]))
    if not PLAUSIBLE[0] <= share <= PLAUSIBLE[1] or (box is None and not _stands_out(region, lab)):
        whole = Image.new("L", picture.size)
        whole.paste(255, box or (0, 0, *picture.size))
        return whole
    mask = Image.fromarray(region.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    return mask.point(_binary)


def _binary(value: int) -> int:
    return 255 if value > 127 else 0


def _unframed(pixels: NDArray[np.uint8], lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The subject of a picture without a box: one that the border cuts off, or else one inside the border."""
    if min(lab.shape[:2]) < 2:
        return np.zeros(lab.shape[:2], bool)
    free = _cut(pixels, lab, _labels(lab))
    return free if _is_cut_off(free) else _cut(pixels, lab, _box_labels(pixels, _without_border(pixels.shape)))


def _is_cut_off(region: NDArray[np.bool_]) -> bool:
    """Whether the border cuts off the subject. What meets the top alone or beside a side, or much of both sides, is
    background that was found by mistake."""
    sides = region[0], region[-1], region[:, 0], region[:, -1]
    share = float(np.concatenate(sides).mean())
    top, bottom, left, right = (float(side.mean()) for side in sides)
    is_above = top > _CUT_SIDE and (bottom <= _CUT_SIDE or max(left, right) > _CUT_SIDE)
    return _CUT_OFF[0] < share < _CUT_OFF[1] and min(left, right) < _BOTH_SIDES and not is_above


def _cut(pixels: NDArray[np.uint8], lab: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return _filled(_without_specks(_grab_cut(pixels, labels)), lab)


def _box_labels(pixels: NDArray[np.uint8], area: Box) -> NDArray[np.uint8]:
    """GrabCut's labels: background outside of ``area``."""
    labels = np.full(pixels.shape[:2], cv2.GC_BGD, np.uint8)
    x0, y0, x1, y1 = area
    labels[y0:y1, x0:x1] = cv2.GC_PR_FGD
    return labels


def _labels(lab: NDArray[np.float32]) -> NDArray[np.uint8]:
    """GrabCut's labels: probably the subject where the evidence of it is above Otsu's threshold."""
    levels = np.round(255 * subject_evidence(lab)).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.where(levels > threshold, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)


def _grab_cut(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Foreground pixels by GrabCut; none if ``labels`` has no foreground or no background."""
    if np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).all() or np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD)).all():
        return np.zeros(pixels.shape[:2], bool)
    labels = labels.copy()
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
    if count < 3:
        return region
    sizes = facts[1:, cv2.CC_STAT_AREA]
    main = 1 + int(sizes.argmax())
    far = cv2.distanceTransform((parts != main).astype(np.uint8), cv2.DIST_L2, 3) > _APART * max(region.shape)
    kept = [part for part in range(1, count) if sizes[part - 1] >= _SPECK * sizes[main - 1]]
    others = [
        part for part in kept if part != main and _meets_border(facts[part], region.shape) and far[parts == part].all()
    ]
    return np.isin(parts, list(set(kept) - set(others)))


def _meets_border(part: NDArray[np.int32], shape: tuple[int, ...]) -> bool:
    """Whether a part with these statistics touches the picture's border."""
    left, top, width, height = part[:4]
    return bool(left == 0 or top == 0 or left + width == shape[1] or top + height == shape[0])


def _filled(region: NDArray[np.bool_], lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """``region`` without the holes that are small, or of another colour than the background around the subject."""
    count, parts, facts, _ = cv2.connectedComponentsWithStats((~region).astype(np.uint8), connectivity=4)
    outside = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    around = lab[np.isin(parts, outside) & ~region]
    filled = region.copy()
    for hole in set(range(1, count)) - set(outside.tolist()):
        inside = parts == hole
        nearest = np.linalg.norm(around[:: max(1, len(around) // 500)] - np.median(lab[inside], axis=0), axis=1)
        if facts[hole, cv2.CC_STAT_AREA] < _PINHOLE * region.sum() or nearest.min(initial=np.inf) > _HOLE_COLOR:
            filled |= inside
    return filled


def _stands_out(region: NDArray[np.bool_], lab: NDArray[np.float32]) -> bool:
    """Whether the subject can be told from the background."""
    if _outline_contrast(region, lab) >= _OUTLINE:
        return True
    medians = [np.median(lab[part], axis=0) for part in (region, ~region) if part.any()]
    return len(medians) == 2 and bool(np.linalg.norm(medians[0] - medians[1]) >= _COLOR)


def _outline_contrast(region: NDArray[np.bool_], lab: NDArray[np.float32]) -> float:
    """Mean change of colour across the outline of ``region``; 0 without an outline."""
    smooth, changes = cv2.blur(lab, (3, 3)), []
    for pixels, inside in ((smooth, region), (smooth.swapaxes(0, 1), region.T)):
        change = np.linalg.norm(pixels[3:] - pixels[:-3], axis=-1)
        changes.append(change[inside[1:-2] != inside[2:-1]])
    found = np.concatenate(changes)
    return float(found.mean()) if found.size else 0.0


def _scaled(box: Box, scale: float, size: tuple[int, int]) -> Box:
    x0, y0 = (min(int(v * scale), limit - 1) for v, limit in zip(box[:2], size, strict=True))
    x1, y1 = (min(int(np.ceil(v * scale)), limit) for v, limit in zip(box[2:], size, strict=True))
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _without_border(shape: tuple[int, ...]) -> Box:
    height, width = shape[:2]
    x, y = max(1, round(BORDER * width)), max(1, round(BORDER * height))
    return x, y, width - x, height - y
