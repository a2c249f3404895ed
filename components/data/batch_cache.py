"""A cache of results that are computed in batches; a failing item does not affect others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from components.errors import ConfigError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Failed:
    """Why an item has no result: the reason of a reject."""

    reason: str


@dataclass
class BatchCache(Generic[K, V]):
    """Results of ``compute``, which is called with at most ``batch_size`` items.

    If a batch raises RuntimeError or ValueError, its items are computed one by one. Other errors, and those of the
    device, are passed on.
    """

    compute: Callable[[list[K]], Sequence[V | Failed]]
    batch_size: int
    _known: dict[K, V | Failed] = field(default_factory=dict)

    def get(self, items: Sequence[K]) -> list[V | Failed]:
        """The results of ``items``, in their order; missing ones are computed.

        Raises:
            ConfigError: there is not enough memory for a single item.
        """
        missing = [item for item in dict.fromkeys(items) if item not in self._known]
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            self._known.update(zip(batch, self._try(batch), strict=True))
        return [self._known[item] for item in items]

    def forget(self, items: Iterable[K]) -> None:
        """Remove results from the cache."""
        for item in items:
            self._known.pop(item, None)

    def _try(self, batch: list[K]) -> list[V | Failed]:
        try:
            return list(self.compute(batch))
        except (RuntimeError, ValueError) as error:
            if len(batch) > 1:
                logger.warning("a batch of %d could not be encoded (%s); trying one by one", len(batch), error)
                return [result for item in batch for result in self._try([item])]
            if type(error).__name__ == "OutOfMemoryError":
                raise ConfigError(
                    "data.image_size: the encoders run out of memory on one picture; lower it, or encode on a device "
                    "that has more"
                ) from error
            if type(error).__name__ == "AcceleratorError":
                raise
            return [Failed(f"the encoders failed ({type(error).__name__})")]
