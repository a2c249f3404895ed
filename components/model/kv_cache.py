"""A cache of attention keys and values whose unit is one batch row, so that the batch may change between calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: Keys and values, or values alone, of some rows; the rows are the first axis.
Tensors = tuple[Tensor, ...]


class KeyValueCache:
    """Keys and values of the last set of rows, by attention layer."""

    def __init__(self) -> None:
        self._row_keys: dict[str, tuple[Hashable, ...]] = {}
        self._tensors: dict[str, Tensors] = {}

    def get(self, layer: str, row_keys: tuple[Hashable, ...], compute: Callable[[Sequence[int]], Tensors]) -> Tensors:
        """The keys and values of ``row_keys``: rows of the previous call are copied, new ones are computed.

        Args:
            row_keys: cache keys of the rows; equal keys mean equal content.
            compute: returns the tensors of the rows with the given indices, in that order.
        """
        cached = self._row_keys.get(layer, ())
        if cached is not row_keys and cached != row_keys:
            self._tensors[layer] = self._update(layer, row_keys, compute)
            self._row_keys[layer] = row_keys
        return self._tensors[layer]

    def clear(self) -> None:
        self._row_keys.clear()
        self._tensors.clear()

    def _update(
        self, layer: str, row_keys: tuple[Hashable, ...], compute: Callable[[Sequence[int]], Tensors]
    ) -> Tensors:
        position = {key: index for index, key in enumerate(self._row_keys.get(layer, ()))}
        missing = [index for index, key in enumerate(row_keys) if key not in position]
        if len(missing) == len(row_keys):
            return compute(range(len(row_keys)))
        sources = self._tensors[layer]
        if missing:
            position |= {row_keys[index]: len(position) + nth for nth, index in enumerate(missing)}
            sources = tuple(torch.cat(pair) for pair in zip(sources, compute(missing), strict=True))
        order = torch.tensor([position[key] for key in row_keys], device=sources[0].device)
        return tuple(source.index_select(0, order) for source in sources)


@dataclass(frozen=True)
class CachedRows:
    """The rows of one U-Net call in a cache: their cache keys, and the cache."""

    keys: tuple[Hashable, ...]
    cache: KeyValueCache = field(default_factory=KeyValueCache)
