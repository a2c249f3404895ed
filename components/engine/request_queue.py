"""Who waits, who is being denoised, and whose turn it is. No thread, no model: the engine's books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.engine.future import ImageFuture
from components.engine.policy import early_end, fits, has_room, next_turn
from components.engine.request import DenoisingState, ExcessError, FullError, Phase, Request, Size

#: What requests are admitted by in turn: who asks for which size.
Flow = tuple[str, Size]


@dataclass
class Lane:
    """The requests of one size that are being denoised, and the crowd that holds their keys and values."""

    crowd: Callable[[Sequence[Any]], Sequence[Any]]
    members: list[tuple[ImageFuture, DenoisingState]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        return sum(handle.request.pixels for handle, _ in self.members)

    @property
    def owners(self) -> int:
        return len({handle.request.owner for handle, _ in self.members})


class RequestQueue:
    """The queue and the lanes.

    Args:
        budget: most pixels in all lanes together, see `components.engine.policy.fits`.
        max_queued, max_owned: most requests in the queue, of all and of each owner with a name.
    """

    def __init__(self, budget: int, max_queued: int | None = None, max_owned: int | None = None) -> None:
        self.budget, self._max_queued, self._max_owned = budget, max_queued, max_owned
        self.queue: list[ImageFuture] = []
        self.lanes: dict[Size, Lane] = {}
        self._flow_credits: dict[Flow, float] = {}
        self._lane_credits: dict[Size, float] = {}

    @property
    def empty(self) -> bool:
        return not (self.queue or self.lanes)

    @property
    def pixels(self) -> int:
        """That are being denoised."""
        return sum(lane.pixels for lane in self.lanes.values())

    @property
    def owed(self) -> int:
        """Pixel-steps of all that is queued, and those that are left of what is being denoised."""
        begun = [(handle, draft) for lane in self.lanes.values() for handle, draft in lane.members]
        left = sum(handle.request.pixels * (draft.total - draft.step) for handle, draft in begun)
        return left + sum(handle.request.cost for handle in self.queue)

    @property
    def denoising(self) -> list[ImageFuture]:
        return [handle for lane in self.lanes.values() for handle, _ in lane.members]

    def check_room(self, requests: Sequence[Request]) -> None:
        """Raise FullError, or ExcessError, if one owner's ``requests`` may not join the queue."""
        owners = [handle.request.owner for handle in self.queue]
        owner = requests[0].owner if requests else ""
        if owner and not has_room(owners.count(owner), len(requests), self._max_owned):
            raise ExcessError(f"an owner may have {self._max_owned} pictures queued")
        if not has_room(len(owners), len(requests), self._max_queued):
            raise FullError(f"{self._max_queued} pictures may be queued")

    def admit(self) -> ImageFuture | None:
        """Take whoever's turn it is from the queue. If there is no room for them, nobody else is let in before."""
        heads: dict[Flow, ImageFuture] = {}
        for handle in self.queue:
            heads.setdefault((handle.request.owner, handle.request.size), handle)
        if not heads:
            return None
        flow, credits = next_turn(self._flow_credits, {flow: head.request.cost for flow, head in heads.items()})
        if not fits(heads[flow].request.pixels, self.pixels, self.budget):
            return None
        self._flow_credits = credits
        self.queue.remove(heads[flow])
        return heads[flow]

    def join(self, handle: ImageFuture, draft: DenoisingState, crowd: Callable[[], Any]) -> None:
        """Put an admitted request into the lane of its size, which gets a ``crowd`` of its own if it is new."""
        size = handle.request.size
        if size not in self.lanes:
            self.lanes[size] = Lane(crowd())
        self.lanes[size].members.append((handle, draft))

    def next_lane(self) -> Lane | None:
        """The lane whose turn it is to make a step; lanes share the steps by pixels and owners."""
        if not self.lanes:
            return None
        costs = {size: lane.pixels for size, lane in self.lanes.items()}
        owners = {size: lane.owners for size, lane in self.lanes.items()}
        size, self._lane_credits = next_turn(self._lane_credits, costs, owners)
        return self.lanes[size]

    def release(self, handle: ImageFuture) -> None:
        """Make room. The last of a lane takes its crowd along."""
        size = handle.request.size
        lane = self.lanes[size]
        lane.members = [member for member in lane.members if member[0] is not handle]
        if not lane.members:
            del self.lanes[size]

    def drop_ended(self, now: float) -> list[tuple[ImageFuture, Phase]]:
        """Remove whoever was cancelled or has expired by ``now``, queued or denoising."""
        ended = []
        for handle in [*self.queue, *self.denoising]:
            phase = early_end(handle.cancelled, handle.request.deadline, now)
            if phase is None:
                continue
            if handle.phase is Phase.QUEUED:
                self.queue.remove(handle)
            else:
                self.release(handle)
            ended.append((handle, phase))
        return ended

    def clear(self) -> None:
        """Remove everybody."""
        self.queue, self.lanes = [], {}
