"""Which versions are to be served, and which of them draws an order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from deploy.interfaces.protocols import Order


@dataclass(frozen=True)
class VersionAliases:
    """The versions that are to be served; the challenger gets a share of the orders."""

    champion: str
    challenger: str | None = None


def chosen(lineup: VersionAliases, order: Order, canary: float) -> str:
    """The version that draws an order.

    An owner always gets the same one. Without owners the seed decides, so that an order sent again is drawn alike.
    """
    if lineup.challenger is None or place(order.owner or str(order.seeds[0])) >= canary:
        return lineup.champion
    return lineup.challenger


def place(name: str) -> float:
    """Where in [0, 1) a name lies; names lie evenly, and always at the same place."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
