"""The order of training rows: a pure function of the seed, independent of the number of workers.

A step has ``lanes`` micro-batches, and workers share the lanes: each has one, or several if workers are missing or
gradients are accumulated. An epoch contains every row once, in pieces (row groups of the shards) in random order.
Within an epoch, each lane has its own range of rows in every window of steps, shuffled; so a worker reads only its own
rows, and a run that resumes with fewer workers trains on the same rows. Epochs follow without a gap: the last step of
one is filled with rows of the next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

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

    @property
    def rows(self) -> int:
        return self._ends[-1] if self._ends else 0

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
        epochs: dict[int, tuple[Sequence[int], Sequence[int]]] = {}
        rows = []
        for place in shuffle.permutation(count).tolist():
            epoch, within = divmod(first + place, self.rows)
            if epoch not in epochs:
                epochs[epoch] = _epoch_order(self.pieces, self.seed, epoch)
            order, ends = epochs[epoch]
            index = bisect_right(ends, within)
            rows.append(OrderedRow(order[index], within - (ends[index - 1] if index else 0), epoch))
        return rows

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.pieces))


@lru_cache(maxsize=64)
def _epoch_order(pieces: tuple[int, ...], seed: int, epoch: int) -> tuple[Sequence[int], Sequence[int]]:
    """The pieces in the order of ``epoch``, and their cumulative numbers of rows."""
    order = np.random.default_rng((seed, _PIECES, epoch)).permutation(len(pieces)).tolist()
    return order, list(accumulate(pieces[piece] for piece in order))
