"""The aspect-ratio bucket of each step, a function of the step that all workers compute alike.

Images of a batch have the same shape, so a batch is from one bucket. Buckets are sampled in proportion to their rows,
so that every row is used equally often.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

import torch

from components.checkpoint import step_generator

#: Offset of the training's seed; noise (0) and the order of rows (1, 3) have other offsets.
_STREAM = 2


def bucket_at(rows: Mapping[str, int], seed: int, step: int) -> str:
    """The bucket of ``step``, sampled in proportion to ``rows`` (bucket -> number, not all 0)."""
    names = sorted(rows)
    if len(names) == 1:
        return names[0]
    ends = list(accumulate(rows[name] for name in names))
    sampled = torch.rand((), generator=step_generator(seed + _STREAM, step), dtype=torch.float64)
    return names[bisect_right(ends, sampled.item() * ends[-1])]


def positions(rows: Mapping[str, int], seed: int, step: int) -> dict[str, int]:
    """The number of steps of each bucket before ``step``."""
    sampled = Counter(bucket_at(rows, seed, earlier) for earlier in range(step)) if len(rows) > 1 else {min(rows): step}
    return {name: sampled.get(name, 0) for name in rows}
