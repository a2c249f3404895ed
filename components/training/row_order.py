"""The order of training rows: a pure function of the seed, independent of the number of workers.

A step has ``lanes`` micro-batches, and workers share the lanes: each has one, or several if workers are missing or
gradients are accumulated. An epoch contains every row once, in pieces (row groups of the shards) in random order.
Within an epoch, each lane has its own range of rows in every window of steps, shuffled; so a worker reads only its own
rows, and a run that resumes with fewer workers trains on the same rows. Epochs follow without a gap: the last step of
one is filled with rows of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Streams of random numbers: the rows of a window, the pieces of an epoch.
_ROWS, _PIECES = 1, 3


@dataclass(frozen=True)
class Window:
    """Steps ``start`` to ``stop`` (exclusive), whose rows are shuffled together within each lane."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class OrderedRow(NamedTuple):
    """A row of a piece, in an epoch."""

    piece: int
    row: int
    epoch: int


@dataclass(frozen=True)
class RowOrder:
    """The order of the rows of one bucket.

    Args:
        pieces: rows of every piece.
        batch: rows of a micro-batch.
        lanes: micro-batches of a step.
        seed: of the training and the bucket, at least 0.
        shuffled: rows of a lane that are shuffled together, at least one micro-batch.
    """

    pieces: tuple[int, ...]
    batch: int
    lanes: int
    seed: int
    shuffled: int

    def __post_init__(self) -> None:
        if self.rows == 0:
            raise ValueError("a bucket without rows has no order")

    @cached_property
    def rows(self) -> int:
        return sum(self.pieces)

    @property
    def step_rows(self) -> int:
        """Rows of a step."""
        return self.batch * self.lanes

    def window(self, step: int) -> Window:
        """The window of ``step``, counted within this bucket; a step with rows of two epochs has its own window."""
        epoch = step * self.step_rows // self.rows
        first, last = -(-epoch * self.rows // self.step_rows), (epoch + 1) * self.rows // self.step_rows
        if step >= last:
            return Window(step, step + 1)
        length = max(1, self.shuffled // self.batch)
        start = first + (step - first) // length * length
        return Window(start, min(start + length, last))

    def lane_rows(self, window: Window, lane: int) -> list[OrderedRow]:
        """The rows of ``lane`` in ``window``, in order, ``batch`` of them for each step."""
        count = len(window) * self.batch
        first = window.start * self.step_rows + lane * count
        shuffle = np.random.default_rng((self.seed, _ROWS, window.start, lane))
        places = first + shuffle.permutation(count)
        pieces, within = np.empty_like(places), places % self.rows
        for epoch in np.unique(places // self.rows).tolist():
            order, ends = _epoch_order(self.pieces, self.seed, epoch)
            there = places // self.rows == epoch
            index = np.searchsorted(ends, within[there], side="right")
            pieces[there] = order[index]
            within[there] -= np.where(index, ends[index - 1], 0)
        epochs = places // self.rows
        return [OrderedRow(*row) for row in zip(pieces.tolist(), within.tolist(), epochs.tolist(), strict=True)]


@lru_cache(maxsize=64)
def _epoch_order(pieces: tuple[int, ...], seed: int, epoch: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The pieces in the order of ``epoch``, and their cumulative numbers of rows."""
    order = np.random.default_rng((seed, _PIECES, epoch)).permutation(len(pieces)).astype(np.uint32)
    return order, np.cumsum(np.array(pieces)[order], dtype=np.int64)
