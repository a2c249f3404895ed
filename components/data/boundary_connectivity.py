"""Seeds for segmentation: which parts of a picture are background, although the subject may touch its border.

Boundary connectivity (Zhu, Liang, Wei and Sun: Saliency Optimization from Robust Background Detection, CVPR 2014): the
background meets much of the picture's border for its area, a subject that is cut off by the border meets little of it.
The picture is divided into patches of like colour; patches are as alike as the smallest change of colour on a path
between them. Bands such as a horizon, which meet little of the border too, are found by their equal colour at
opposite sides. The subject is then what differs from the background near it, smoothed over patches of like colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

Floats = NDArray[np.float64]

#: Number of patches, and the weight of distance in pixels beside that of colour (CIELAB).
_PATCHES, _COMPACT = 200, 10.0
#: Change of colour along a path between patches that are alike.
_ALIKE = 10.0
#: Boundary connectivity from which a patch is probably background.
_CONNECTED = 1.0
#: Colours, positions (shares of the side) and areas (share of the picture) of the two ends of a band, at most.
_BAND_COLOR, _BAND_SHIFT, _BAND_AREA = 6.0, 0.06, 0.35
#: Distance, as a share of the sides, within which differences from the background count.
_NEAR = 0.4
#: Change of colour over which the result is smoothed, and the weight of the background in it.
_SMOOTH, _BACKGROUND = 10.0, 0.5


@dataclass(frozen=True)
class _Patches:
    """Patches of a picture: ``at`` [h, w] is the number of each pixel's, the rest is by number.

    Args:
        color: mean CIELAB colours [n, 3].
        position: centres (y, x) as shares of the sides [n, 2].
        area: in pixels [n].
        neighbours: pairs of touching patches [m, 2].
    """

    at: NDArray[np.int64]
    color: Floats
    position: Floats
    area: Floats
    neighbours: NDArray[np.int64]


def subject_evidence(lab: NDArray[np.float32]) -> Floats:
    """How much each pixel looks like the subject [h, w], in [0, 1].

    Args:
        lab: the picture in CIELAB [h, w, 3]; each side has at least two pixels.
    """
    patches = _divide(lab)
    color_distance = _distances(patches.color)
    alike = np.exp(-0.5 * (_path_changes(patches, color_distance) / _ALIKE) ** 2)
    connected = _boundary_connectivity(patches, alike, color_distance)
    background = 1 - np.exp(-0.5 * (connected / _CONNECTED) ** 2)
    near = np.exp(-0.5 * (_distances(patches.position) / _NEAR) ** 2)
    contrast = _unit((near * color_distance) @ (background * patches.area))
    return _smoothed(patches, color_distance, background, contrast)[patches.at]


def _divide(lab: NDArray[np.float32]) -> _Patches:
    """Patches by k-means over colour and position, from a regular grid (as SLIC)."""
    height, width = lab.shape[:2]
    step = max(2.0, (height * width / _PATCHES) ** 0.5)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    y, x = np.mgrid[:height, :width]
    grid = (np.minimum(y * rows // height, rows - 1) * columns + np.minimum(x * columns // width, columns - 1)).ravel()
    features = np.column_stack([lab.reshape(-1, 3), y.ravel() * _COMPACT / step, x.ravel() * _COMPACT / step])
    once = (cv2.TERM_CRITERIA_MAX_ITER, 4, 0)
    labels = grid.astype(np.int32)[:, None]
    _, labels, _ = cv2.kmeans(  # type: ignore[call-overload]
        features.astype(np.float32), rows * columns, labels, once, 1, cv2.KMEANS_USE_INITIAL_LABELS
    )
    at = np.unique(labels.ravel(), return_inverse=True)[1].reshape(height, width).astype(np.int64)
    area = np.bincount(at.ravel()).astype(np.float64)

    def means(values: NDArray[np.generic]) -> Floats:
        return np.bincount(at.ravel(), values.ravel().astype(np.float64)) / area

    color = np.column_stack([means(lab[..., channel]) for channel in range(3)])
    position = np.column_stack([means(y) / height, means(x) / width])
    across, down = np.stack([at[:, :-1], at[:, 1:]], -1), np.stack([at[:-1], at[1:]], -1)
    pairs = np.concatenate([across.reshape(-1, 2), down.reshape(-1, 2)])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return _Patches(at, color, position, area, pairs)


def _path_changes(patches: _Patches, color_distance: Floats) -> Floats:
    """The smallest sum of changes of colour on a path between two patches [n, n]; small changes count nothing."""
    first, second = patches.neighbours.T
    change, count = color_distance[first, second], len(patches.area)
    smallest = np.full(count, np.inf)
    np.minimum.at(smallest, first, change)
    np.minimum.at(smallest, second, change)
    usual = smallest[np.isfinite(smallest)].mean() if len(change) else 0.0
    change = np.maximum(0, change - usual) + 1e-6  # zeros would be no edge
    graph = csr_matrix((change, (first, second)), (count, count))
    return np.asarray(shortest_path(graph, directed=False))


def _boundary_connectivity(patches: _Patches, alike: Floats, color_distance: Floats) -> Floats:
    """The border's length in what is like each patch, by the square root of its area [n]; more for bands."""
    at, count = patches.at, len(patches.area)
    sides = (at[0], at[-1], at[:, 0], at[:, -1])
    border = sum((np.bincount(side, minlength=count) for side in sides), np.zeros(count, np.int64))
    area = alike @ patches.area
    connected = (alike @ border) / np.sqrt(area)
    for one, other, axis in ((at[:, 0], at[:, -1], 0), (at[0], at[-1], 1)):
        first, second = np.unique(one), np.unique(other)
        shift = np.abs(patches.position[first, axis][:, None] - patches.position[second, axis][None])
        same = (color_distance[np.ix_(first, second)] < _BAND_COLOR) & (shift < _BAND_SHIFT)
        ends = np.concatenate([first[same.any(1)], second[same.any(0)]])
        narrow = ends[area[ends] < _BAND_AREA * patches.area.sum()]
        if len(narrow):
            connected = np.maximum(connected, 3 * _CONNECTED * alike[narrow].max(0))
    return np.asarray(connected)


def _smoothed(patches: _Patches, color_distance: Floats, background: Floats, contrast: Floats) -> Floats:
    """The least-squares compromise of background (0), contrast (1) and equality of like neighbours [n], in [0, 1]."""
    first, second = patches.neighbours.T
    weights = np.zeros_like(color_distance)
    like = np.exp(-0.5 * (color_distance[first, second] / _SMOOTH) ** 2) + 0.1
    weights[first, second] = weights[second, first] = like
    laplacian = np.diag(weights.sum(1)) - weights
    fidelity = _BACKGROUND * np.where(background < 0.05, 0, background) + contrast + 1e-6
    return _unit(np.linalg.solve(laplacian + np.diag(fidelity), contrast))


def _distances(points: Floats) -> Floats:
    return np.asarray(np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1)))


def _unit(values: NDArray[np.floating]) -> Floats:
    """``values`` scaled to [0, 1]; zeros if all are equal."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low) if high > low + 1e-9 else np.zeros_like(values), np.float64)
