"""Who goes next, and who may: the engine's decisions as functions of numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from components.engine.request import Phase

K = TypeVar("K", bound=Hashable)


def next_turn(
    credits: Mapping[K, float], costs: Mapping[K, float], weights: Mapping[K, float] | None = None
) -> tuple[K, dict[K, float]]:
    """Deficit round robin: who is served next, and everyone's credit after that.

    In every round each gains credit by its weight; whose credit reaches the cost of what it wants next is served and
    pays. The rounds in which nobody can pay are skipped at once. So over time each is served in proportion to its
    weight, whether it wants few dear things or many cheap ones. Who wants nothing saves nothing.

    Args:
        credits: what an earlier call returned, or nothing.
        costs: of the next thing that each wants.
        weights: 1 by default.
    """
    order = [key for key in credits if key in costs]  # who was served longest ago is first, and wins ties
    order += [key for key in costs if key not in credits]
    weight = {key: 1.0 if weights is None else weights[key] for key in order}
    rounds = {key: max(0.0, costs[key] - credits.get(key, 0.0)) / weight[key] for key in order}
    chosen = min(order, key=rounds.__getitem__)
    after = {key: credits.get(key, 0.0) + rounds[chosen] * weight[key] for key in order}
    after[chosen] = max(0.0, after.pop(chosen) - costs[chosen])
    return chosen, after


def fits(pixels: int, used: int, budget: int) -> bool:
    """Whether a picture may join others that are drawn now. One alone always may, however large."""
    return used == 0 or used + pixels <= budget


def has_room(waiting: int, more: int, most: int | None) -> bool:
    """Whether so many more may wait. Those who come when nobody waits always may, however many."""
    return most is None or waiting == 0 or waiting + more <= most


def early_end(cancelled: bool, deadline: float | None, now: float) -> Phase | None:
    """How a request ends before it is done, if it does."""
    if cancelled:
        return Phase.CANCELLED
    return Phase.EXPIRED if deadline is not None and now >= deadline else None
