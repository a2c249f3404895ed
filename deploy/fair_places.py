"""Places in front of work that a process does a little of at a time, shared among owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from deploy.fair_queue import FairQueue, Ticket


class FairPlaces:
    """A `FairQueue` in an event loop; the arguments are the queue's."""

    def __init__(self, places: int, waiting: int, waiting_of_owner: int) -> None:
        self._queue = FairQueue(places, waiting, waiting_of_owner)
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
