"""A queue that shares places among owners: pure data, without an event loop.

A place goes to the owner that holds the fewest, and of several such owners to the one that was served longest ago.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from deploy.interfaces.errors import BusyError, OwnerLimitError


@dataclass(eq=False)
class Ticket:
    """A request: it waits, or ``holds`` a place."""

    owner: str
    holds: bool = False


class FairQueue:
    """The places, and the requests that wait for one.

    An owner that holds no place gets one at once, even if others hold all of them, as long as there are at most twice
    ``places``. Until there are fewer than ``places`` again, nobody else gets one. So nobody waits until requests of an
    owner with many are done, and no place is kept free for owners that do not come.

    Args:
        places: number of requests that are worked on at the same time.
        waiting: number of requests that may wait.
        waiting_of_owner: of these, the number of one owner's; it does not apply to the owner ``""``, who is everybody.
    """

    def __init__(self, places: int, waiting: int, waiting_of_owner: int) -> None:
        self._places, self._most_waiting, self._most_of_owner = places, waiting, waiting_of_owner
        self._held: Counter[str] = Counter()
        #: The waiting requests by owner; the owner that was served longest ago is first.
        self._waiting: OrderedDict[str, deque[Ticket]] = OrderedDict()

    @property
    def held(self) -> int:
        """Number of places that are held."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return sum(map(len, self._waiting.values()))

    def enter(self, owner: str) -> Ticket:
        """A request of ``owner``, which holds a place at once if one is free for it.

        Raises:
            OwnerLimitError: the owner has as many waiting requests as allowed.
            BusyError: all owners together have.
        """
        ticket = Ticket(owner)
        if owner not in self._waiting and self._is_free_for(owner):
            self._give(ticket)
            return ticket
        if owner and len(self._waiting.get(owner, ())) >= self._most_of_owner:
            raise OwnerLimitError("too many of your own requests are waiting; try again later")
        if self.waiting >= self._most_waiting:
            raise BusyError("too many requests are waiting; try again later")
        self._waiting.setdefault(owner, deque()).append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """Remove a request that is done or no longer waits; returns those that get a place."""
        if ticket.holds:
            ticket.holds = False
            self._held[ticket.owner] -= 1
            self._held += Counter()  # drops zeros
        else:
            self._remove(ticket)
        return self._serve()

    def resize(self, places: int) -> list[Ticket]:
        """Change the number of places; returns the requests that get one. Held places stay held."""
        self._places = places
        return self._serve()

    def _is_free_for(self, owner: str) -> bool:
        return self.held < self._places or (not self._held[owner] and self.held < 2 * self._places)

    def _serve(self) -> list[Ticket]:
        served = []
        while self._waiting:
            owner = min(self._waiting, key=self._held.__getitem__)
            if not self._is_free_for(owner):
                break
            ticket = self._waiting[owner][0]
            self._remove(ticket)
            self._give(ticket)
            served.append(ticket)
            if owner in self._waiting:
                self._waiting.move_to_end(owner)
        return served

    def _give(self, ticket: Ticket) -> None:
        ticket.holds = True
        self._held[ticket.owner] += 1

    def _remove(self, ticket: Ticket) -> None:
        tickets = self._waiting[ticket.owner]
        tickets.remove(ticket)
        if not tickets:
            del self._waiting[ticket.owner]
