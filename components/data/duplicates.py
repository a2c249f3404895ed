"""Near-duplicate detection: the same photograph re-encoded, resized, slightly brightened or cropped."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Maximum Hamming distance of the hashes of near-duplicates (docs/explanation/experiments.md: "Near-duplicates").
NEAR = 20
_BITS = 256
#: Side of the transformed picture, and the number of lowest frequencies used of brightness and of each colour channel.
_SIDE, _BRIGHTNESS, _COLOUR = 64, 144, 56
#: Threshold of colour coefficients: smaller ones may be noise of a grey picture.
_GREY = 20.0
#: Pairs compared at a time.
_CHUNK = 1 << 20

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def picture_hash(picture: Image.Image) -> str:
    """A 256-bit perceptual hash of an RGB ``picture``, in hexadecimal digits.

    Its bits are signs of the lowest frequencies (discrete cosine transform) of the picture's brightness, without the
    mean, and of its two colour differences. Re-encoding, resizing, brightness and contrast change almost none of
    them, a crop of a few per cent only some.
    """
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("YCbCr")
    brightness, *colours = (cv2.dct(channel) for channel in np.moveaxis(np.asarray(small, np.float32) - 128, 2, 0))
    order = _from_low_to_high()
    signs = [brightness.flat[order[1 : _BRIGHTNESS + 1]] > 0]
    signs += [colour.flat[order[:_COLOUR]] > _GREY for colour in colours]
    return np.packbits(np.concatenate(signs)).tobytes().hex()


def find_duplicates(hashes: NDArray[np.uint64], near: int = NEAR) -> NDArray[np.int64]:
    """For each of the `picture_hash` [n, 4] the index of the earliest that it duplicates, which may be its own.

    Duplicates are connected components of hashes that differ by at most ``near`` bits. The search is exact.
    """
    if not len(hashes):
        return np.empty(0, np.int64)
    # Equal hashes are merged first, so that copies of one picture do not produce quadratically many pairs.
    distinct, inverse = np.unique(hashes, axis=0, return_inverse=True)
    _, first, group = np.unique(_groups(distinct, near)[inverse.ravel()], return_index=True, return_inverse=True)
    return first[group]


def hash_bits(hash: str) -> NDArray[np.uint64]:
    """A `picture_hash` as numbers [4]."""
    return np.frombuffer(bytes.fromhex(hash), np.uint64)


def _from_low_to_high() -> NDArray[np.int64]:
    """Indices of the transform's coefficients, by the sum of their frequencies."""
    y, x = np.indices((_SIDE, _SIDE))
    return np.lexsort((y.ravel(), (y + x).ravel()))


def _groups(hashes: NDArray[np.uint64], near: int) -> NDArray[np.int64]:
    """The group [n] of every one of the distinct hashes [n, 4]."""
    groups = np.arange(len(hashes))
    for left, right in _candidates(hashes, near):
        apart = groups[left] != groups[right]
        left, right = left[apart], right[apart]
        close = np.bitwise_count(hashes[left] ^ hashes[right]).sum(1) <= near
        if close.any():
            edges = groups[left[close]], groups[right[close]]
            graph = coo_array((np.ones(len(edges[0]), bool), edges), (len(hashes), len(hashes)))
            groups = connected_components(graph, directed=False)[1][groups]
    return groups


def _candidates(hashes: NDArray[np.uint64], near: int) -> Iterator[Pairs]:
    """Candidate pairs of rows in chunks; they include every pair that differs by at most ``near`` bits.

    The bits are distributed over more than ``near / 2`` bands, so that in some band at most one bit differs.
    """
    bands = max(8, near // 2 + 1)
    for band in range(bands):
        columns = range(band, _BITS, bands)
        weights = 1 << np.arange(len(columns))
        keys = np.zeros(len(hashes), np.int64)
        for weight, bit in zip(weights, columns, strict=True):
            keys += (hashes[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(np.int64) * weight
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for flip in [0, *weights.tolist()] if near >= bands else [0]:
            wanted = keys ^ flip
            starts = np.maximum(np.searchsorted(keys, wanted, "left"), np.arange(1, len(keys) + 1))
            yield from _pairs(order, starts, np.searchsorted(keys, wanted, "right"))


def _pairs(order: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[Pairs]:
    """The row of each rank with the rows of the ranks from its start to its end, in chunks."""
    ranks = np.flatnonzero(ends > starts)
    counts = (ends - starts)[ranks]
    sums = np.cumsum(counts)
    begin = 0
    while begin < len(ranks):
        before = sums[begin] - counts[begin]
        end = max(begin + 1, int(np.searchsorted(sums, before + _CHUNK, "right")))
        number = counts[begin:end]
        left = np.repeat(ranks[begin:end], number)
        steps = np.arange(number.sum()) - np.repeat(sums[begin:end] - number - before, number)
        yield order[left], order[np.repeat(starts[ranks[begin:end]], number) + steps]
        begin = end
