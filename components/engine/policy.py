"""Fairness, admission and early ends: the engine's decisions as pure functions of numbers.

Which requests share a U-Net call (a lane) is decided in `components.engine.request_queue`, with these functions.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from components.engine.request import Phase

K = TypeVar("K", bound=Hashable)


def deficit_round_robin(
    credits: Mapping[K, float], costs: Mapping[K, float], weights: Mapping[K, float] | None = None
) -> tuple[K, dict[K, float]]:
    """Deficit round robin: the flow that is served next, and the credit of each flow after that.

    In every round the credit of each flow grows by its weight; a flow whose credit reaches the cost of its next item is
    served and pays that cost. Rounds in which no flow is served are skipped. Over time each flow gets a share of the
    total cost in proportion to its weight, whether its items are few and large or many and small. A flow without an
    item loses its credit.

    Args:
        credits: the credits of the previous call, or nothing.
        costs: cost of the next item of each flow.
        weights: of each flow, 1 by default.
    """
    order = [key for key in credits if key in costs]  # the flow that was served longest ago is first, and wins ties
    order += [key for key in costs if key not in credits]
    weight = {key: 1.0 if weights is None else weights[key] for key in order}
    rounds = {key: max(0.0, costs[key] - credits.get(key, 0.0)) / weight[key] for key in order}
    chosen = min(order, key=rounds.__getitem__)
    after = {key: credits.get(key, 0.0) + rounds[chosen] * weight[key] for key in order}
    after[chosen] = max(0.0, after.pop(chosen) - costs[chosen])
    return chosen, after


def fits(pixels: int, used: int, budget: int) -> bool:
    """Whether an image of ``pixels`` fits beside ``used`` pixels. An image of any size may be denoised alone."""
    return used == 0 or used + pixels <= budget


def fits_beside(pixels: int, others: Collection[int], budget: int) -> bool:
    """Whether the first image of an owner may be denoised although the budget is used up.

    It may if the images of the other owners beyond their first can pause, that is, if a call with one image of each
    owner keeps to the budget. An image above half of the budget counts as half: it makes calls of its own, which
    alternate with the others.

    Args:
        others: pixels of one image of each other owner that is denoised.
    """
    return sum(min(each, budget // 2) for each in others) + pixels <= budget


def fair_rows(held: Mapping[K, int], most: int, owners: int) -> dict[K, int]:
    """How many images of each owner take part in a call, so that nobody is slowed down by another one's many.

    The owners get equal numbers, as far as each has images. An owner whose images are the only ones in the call gets
    all places if nobody else has work, and otherwise its share of them.

    Args:
        held: number of images of each owner that are denoised at the size of the call.
        most: number of images that fit into a call.
        owners: number of owners with images that are denoised, at any size.
    """
    if len(held) == 1:
        return {owner: min(count, max(1, most // owners)) for owner, count in held.items()}
    rows = dict.fromkeys(held, 0)
    while True:
        more = [owner for owner, count in held.items() if rows[owner] < count]
        if sum(rows.values()) and (len(more) < 2 or sum(rows.values()) + len(more) > most):
            return rows
        for owner in more:
            rows[owner] += 1


def has_room(waiting: int, more: int, most: int | None) -> bool:
    """Whether ``more`` requests may be queued beside ``waiting``. An empty queue takes any number of them."""
    return most is None or waiting == 0 or waiting + more <= most


def early_end(cancelled: bool, deadline: float | None, now: float) -> Phase | None:
    """The final phase of a request that was cancelled or whose deadline has passed, otherwise None."""
    if cancelled:
        return Phase.CANCELLED
    return Phase.EXPIRED if deadline is not None and now >= deadline else None
