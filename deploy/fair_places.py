"""Places in front of work that a process does a little of at a time, shared among owners."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from components.config import ServingConfig
from deploy.fair_queue import FairQueue, Ticket


class FairPlaces:
    """A `FairQueue` in an event loop, with the configured limits of waiting requests."""

    def __init__(self, places: int, serving: ServingConfig) -> None:
        waiting = serving.max_queued_requests
        self._queue = FairQueue(places, waiting, math.ceil(serving.owner_share * waiting))
        self._served: dict[Ticket, asyncio.Event] = {}

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it until the block ends.

        Raises:
            BusyError: too many requests wait; OwnerLimitError if they are the owner's own.
        """
        ticket = self._queue.enter(owner)
        served = self._served[ticket] = asyncio.Event()
        try:
            if not ticket.holds:
                await served.wait()
            yield
        finally:
            del self._served[ticket]
            self._wake(self._queue.leave(ticket))

    def resize(self, places: int) -> None:
        """Change the number of places."""
        self._wake(self._queue.resize(places))

    def _wake(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._served[ticket].set()
