"""The queued and the denoised requests, and which of them is next: pure data, without threads and model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from components.engine.future import ImageFuture
from components.engine.policy import deficit_round_robin, early_end, fits, has_room
from components.engine.request import Denoiser, DenoisingState, ExcessError, FullError, Phase, Request, Size

#: The unit of fair admission: an owner and a size.
Flow = tuple[str, Size]


@dataclass
class Lane:
    """The requests of one size that are denoised together, and the denoiser with their cached keys and values."""

    denoiser: Denoiser
    members: list[tuple[ImageFuture, DenoisingState]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        return sum(future.request.pixels for future, _ in self.members)

    @property
    def owners(self) -> int:
        return len({future.request.owner for future, _ in self.members})


class RequestQueue:
    """The waiting requests, and a lane for each size that is denoised.

    Args:
        budget: largest number of pixels in all lanes together, see `components.engine.policy.fits`.
        max_queued, max_owned: largest number of waiting requests, of all owners and of each named owner.
    """

    def __init__(self, budget: int, max_queued: int | None = None, max_owned: int | None = None) -> None:
        self.budget, self._max_queued, self._max_owned = budget, max_queued, max_owned
        self.waiting: list[ImageFuture] = []
        self.lanes: dict[Size, Lane] = {}
        self._flow_credits: dict[Flow, float] = {}
        self._lane_credits: dict[Size, float] = {}

    @property
    def empty(self) -> bool:
        return not (self.waiting or self.lanes)

    @property
    def pixels(self) -> int:
        """Pixels in all lanes."""
        return sum(lane.pixels for lane in self.lanes.values())

    @property
    def backlog(self) -> int:
        """Pixel-steps of the waiting requests, and the remaining ones of those in lanes."""
        members = [member for lane in self.lanes.values() for member in lane.members]
        remaining = sum(future.request.pixels * (state.total - state.step) for future, state in members)
        return remaining + sum(future.request.cost for future in self.waiting)

    @property
    def denoising(self) -> list[ImageFuture]:
        return [future for lane in self.lanes.values() for future, _ in lane.members]

    def check_room(self, requests: Sequence[Request]) -> None:
        """Raise FullError, or ExcessError, if one owner's ``requests`` may not join the queue."""
        owners = [future.request.owner for future in self.waiting]
        owner = requests[0].owner if requests else ""
        if owner and not has_room(owners.count(owner), len(requests), self._max_owned):
            raise ExcessError(f"an owner may have {self._max_owned} pictures queued")
        if not has_room(len(owners), len(requests), self._max_queued):
            raise FullError(f"{self._max_queued} pictures may be queued")

    def admit(self) -> ImageFuture | None:
        """Remove the next request from the queue. If it does not fit, the queue waits: nothing overtakes it."""
        heads: dict[Flow, ImageFuture] = {}
        for future in self.waiting:
            heads.setdefault((future.request.owner, future.request.size), future)
        if not heads:
            return None
        flow, credits = deficit_round_robin(
            self._flow_credits, {flow: head.request.cost for flow, head in heads.items()}
        )
        if not fits(heads[flow].request.pixels, self.pixels, self.budget):
            return None
        self._flow_credits = credits
        self.waiting.remove(heads[flow])
        return heads[flow]

    def join(self, future: ImageFuture, state: DenoisingState, new_denoiser: Callable[[], Denoiser]) -> None:
        """Put an admitted request into the lane of its size, with a new denoiser if the lane is new."""
        size = future.request.size
        if size not in self.lanes:
            self.lanes[size] = Lane(new_denoiser())
        self.lanes[size].members.append((future, state))

    def next_lane(self) -> Lane | None:
        """The lane that makes the next step; lanes share the pixel-steps in proportion to their owners."""
        if not self.lanes:
            return None
        costs = {size: lane.pixels for size, lane in self.lanes.items()}
        owners = {size: lane.owners for size, lane in self.lanes.items()}
        size, self._lane_credits = deficit_round_robin(self._lane_credits, costs, owners)
        return self.lanes[size]

    def release(self, future: ImageFuture) -> None:
        """Remove a request from its lane. An empty lane is removed with its denoiser."""
        size = future.request.size
        lane = self.lanes[size]
        lane.members = [member for member in lane.members if member[0] is not future]
        if not lane.members:
            del self.lanes[size]

    def drop_ended(self, now: float) -> list[tuple[ImageFuture, Phase]]:
        """Remove the waiting and denoised requests that were cancelled or have expired by ``now``."""
        ended = []
        for future in [*self.waiting, *self.denoising]:
            phase = early_end(future.cancelled, future.request.deadline, now)
            if phase is None:
                continue
            if future.phase is Phase.QUEUED:
                self.waiting.remove(future)
            else:
                self.release(future)
            ended.append((future, phase))
        return ended

    def clear(self) -> None:
        """Remove all requests."""
        self.waiting, self.lanes = [], {}
