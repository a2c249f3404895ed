"""The same photograph twice: re-encoded, resized, a little brighter, a little cropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Bits by which the hashes of two near-duplicates differ at most (docs/experiments.md says how it was chosen).
NEAR = 40
_BITS = 256
#: Side of the grey picture that is transformed, and of the block of its lowest frequencies that is kept.
_SIDE, _KEPT = 64, 16
#: Hashes are looked up by bands of so many bits.
_BAND = 16
#: Pairs that are compared at a time.
_CHUNK = 1 << 21


def picture_hash(picture: Image.Image) -> str:
    """A 256-bit perceptual hash of an RGB ``picture``, in hexadecimal digits.

    Its bits say which of the lowest frequencies of the grey picture (a discrete cosine transform without its constant
    rows) lie above their median, so they outlast re-encoding, resizing and a change of brightness or contrast.
    """
    grey = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2)
    frequencies = cv2.dct(np.asarray(grey, np.float32))[1 : _KEPT + 1, 1 : _KEPT + 1]
    return np.packbits(frequencies > np.median(frequencies)).tobytes().hex()


def find_duplicates(hashes: Mapping[str, str], near: int = NEAR) -> dict[str, str]:
    """The ids in ``hashes`` (id -> `picture_hash`) that show what an earlier one shows, each with the earliest such id.

    Two ids belong together if their hashes differ by at most ``near`` bits, or through others that do. No pair is
    missed: hashes so close agree in one of their bands but for ``near // bands`` bits, and all that do are compared.
    """
    if not hashes:
        return {}
    ids = list(hashes)
    packed = np.frombuffer(bytes.fromhex("".join(hashes.values())), np.uint8).reshape(len(ids), -1)
    # Equal hashes are joined at once, so that many copies of one picture do not make as many pairs.
    words, inverse = np.unique(packed.view(np.uint64), axis=0, return_inverse=True)
    labels = _groups(words, near)[inverse.ravel()]
    first: dict[int, str] = {}
    kept = [first.setdefault(label, name) for label, name in zip(labels.tolist(), ids, strict=True)]
    return {name: original for name, original in zip(ids, kept, strict=True) if name != original}


def _groups(words: NDArray[np.uint64], near: int) -> NDArray[np.int32]:
    """The group [n] of every distinct hash [n, 4]."""
    labels = np.arange(len(words), dtype=np.int32)
    for left, right in _candidates(words, near):
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
        close = np.bitwise_count(words[left] ^ words[right]).sum(1) <= near
        if close.any():
            edges = coo_array(
                (np.ones(int(close.sum()), bool), (labels[left[close]], labels[right[close]])), (len(words),) * 2
            )
            labels = connected_components(edges, directed=False)[1][labels]
    return labels


def _candidates(words: NDArray[np.uint64], near: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows that agree in a band but for the bits that pigeonholes leave to it, by chunks."""
    bands = words.view(np.uint16)
    errors = near // bands.shape[1]
    flips = [sum(1 << bit for bit in bits) for n in range(errors + 1) for bits in combinations(range(_BAND), n)]
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        ranked = band[order]
        for flip in flips:
            wanted = ranked ^ np.uint16(flip)
            starts, ends = np.searchsorted(ranked, wanted, "left"), np.searchsorted(ranked, wanted, "right")
            yield from _expanded(order, starts, ends)


def _expanded(
    order: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Row ``i`` in rank with the rows in the ranks ``starts[i]`` to ``ends[i]``, each pair once."""
    starts = np.maximum(starts, np.arange(len(order)) + 1)
    counts = np.maximum(ends - starts, 0)
    sums = np.cumsum(counts)
    begin = 0
    while begin < len(order):
        done = sums[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(sums, done + _CHUNK, "right")))
        part = counts[begin:end]
        if total := int(part.sum()):
            left = np.repeat(np.arange(begin, end), part)
            right = np.arange(total) - np.repeat(np.cumsum(part) - part, part) + np.repeat(starts[begin:end], part)
            yield order[left], order[right]
        begin = end
