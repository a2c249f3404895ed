"""Which aspect-ratio bucket a step draws its batches from: every worker knows it from the step alone.

Pictures of one batch have one shape, so a batch comes from one bucket. Buckets are drawn as often as they have rows, so
that every row is seen equally often.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

import torch

from components.checkpoint import step_generator

#: Added to the training's seed, which noise (0) and the order of rows (1, 3) are drawn from too.
_STREAM = 2


def bucket_at(rows: Mapping[str, int], seed: int, step: int) -> str:
    """The bucket of ``step``, drawn with a chance in proportion to its ``rows`` (bucket -> number, not all 0)."""
    names = sorted(rows)
    if len(names) == 1:
        return names[0]
    ends = list(accumulate(rows[name] for name in names))
    drawn = torch.rand((), generator=step_generator(seed + _STREAM, step), dtype=torch.float64)
    return names[bisect_right(ends, drawn.item() * ends[-1])]


def positions(rows: Mapping[str, int], seed: int, step: int) -> dict[str, int]:
    """Steps that each bucket has given before ``step``."""
    drawn = Counter(bucket_at(rows, seed, earlier) for earlier in range(step)) if len(rows) > 1 else {min(rows): step}
    return {name: drawn.get(name, 0) for name in rows}
