"""Keys and values that are computed once for each row, in whatever company the row is next."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: Keys and values, or values alone, of some rows; the rows are the first axis.
Tensors = tuple[Tensor, ...]


class KeyValueCache:
    """What was last computed of some rows, by layer. Nothing but the last set of rows is held."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Hashable, ...]] = {}
        self._tensors: dict[str, Tensors] = {}

    def get(self, layer: str, rows: tuple[Hashable, ...], compute: Callable[[Sequence[int]], Tensors]) -> Tensors:
        """Those of ``rows``: rows that were there the last time are copied, the others computed.

        Args:
            rows: names of the rows; an equal name means equal content.
            compute: of the rows with these indices, in this order.
        """
        before = self._rows.get(layer, ())
        if before is not rows and before != rows:
            self._tensors[layer] = self._changed(layer, rows, compute)
            self._rows[layer] = rows
        return self._tensors[layer]

    def clear(self) -> None:
        self._rows.clear()
        self._tensors.clear()

    def _changed(self, layer: str, rows: tuple[Hashable, ...], compute: Callable[[Sequence[int]], Tensors]) -> Tensors:
        place = {row: index for index, row in enumerate(self._rows.get(layer, ()))}
        new = [index for index, row in enumerate(rows) if row not in place]
        if len(new) == len(rows):
            return compute(range(len(rows)))
        sources = self._tensors[layer]
        if new:
            place |= {rows[index]: len(place) + nth for nth, index in enumerate(new)}
            sources = tuple(torch.cat(pair) for pair in zip(sources, compute(new), strict=True))
        order = torch.tensor([place[row] for row in rows], device=sources[0].device)
        return tuple(source.index_select(0, order) for source in sources)


@dataclass(frozen=True)
class CachedRows:
    """Where the keys and values of a call's rows are kept, and under which names."""

    names: tuple[Hashable, ...]
    where: KeyValueCache = field(default_factory=KeyValueCache)
