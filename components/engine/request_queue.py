"""The queued and the denoised requests, and which of them is next: pure data, without threads and model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from components.engine.future import ImageFuture
from components.engine.policy import deficit_round_robin, early_end, fair_rows, fits, fits_beside, has_room
from components.engine.request import Denoiser, DenoisingState, ExcessError, FullError, LaneKey, Phase, Request

#: The unit of admission: an owner and a lane. The flows of an owner share its turns.
Flow = tuple[str, LaneKey]
Member = tuple[ImageFuture, DenoisingState]


@dataclass
class Lane:
    """The requests of one size and LoRAs, and the denoiser with the cached keys and values of its last call."""

    denoiser: Denoiser
    members: list[Member] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        return sum(future.request.load for future, _ in self.members)

    @property
    def owners(self) -> Counter[str]:
        """The number of members of each owner."""
        return Counter(future.request.owner for future, _ in self.members)


@dataclass(frozen=True)
class Call:
    """A U-Net call: a lane, and those of its members that take part. The others pause."""

    lane: Lane
    members: list[Member]

    @property
    def pixels(self) -> int:
        return sum(future.request.load for future, _ in self.members)


class RequestQueue:
    """The waiting requests, and a lane for each size and set of LoRAs that is denoised.

    Args:
        budget: largest number of pixels in a call, and in all lanes together except that owners without a request in
            them may join others that have several, see `components.engine.policy.fits` and `fits_beside`.
        max_queued, max_owned: largest number of waiting requests, of all owners and of each named owner.
    """

    def __init__(self, budget: int, max_queued: int | None = None, max_owned: int | None = None) -> None:
        self.budget, self._max_queued, self._max_owned = budget, max_queued, max_owned
        self.waiting: list[ImageFuture] = []
        self.lanes: dict[LaneKey, Lane] = {}
        self._flow_credits: dict[Flow, float] = {}
        self._lane_credits: dict[LaneKey, float] = {}

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
        """Remove the next request from the queue. If it does not fit, the queue waits: nothing overtakes it.

        Only an owner without a request in the lanes may overtake others that have some.
        """
        heads: dict[Flow, ImageFuture] = {}
        for future in self.waiting:
            heads.setdefault((future.request.owner, future.request.lane), future)
        if not heads:
            return None
        flow, credits = self._next_flow(heads)
        if not fits(heads[flow].request.load, self.pixels, self.budget):
            denoised = self._largest_images()
            newcomers = {flow: head for flow, head in heads.items() if flow[0] not in denoised}
            if flow not in newcomers and newcomers:
                flow, after = self._next_flow(newcomers)
                credits = {each: credit for each, credit in self._flow_credits.items() if each not in after} | after
            pixels = heads[flow].request.load
            pausable = len(self.denoising) > len(denoised) or any(2 * each > self.budget for each in denoised.values())
            if flow not in newcomers or not pausable or not fits_beside(pixels, denoised.values(), self.budget):
                return None
        self._flow_credits = credits
        self.waiting.remove(heads[flow])
        return heads[flow]

    def _next_flow(self, heads: dict[Flow, ImageFuture]) -> tuple[Flow, dict[Flow, float]]:
        sizes = Counter(owner for owner, _ in heads)
        costs = {flow: head.request.cost for flow, head in heads.items()}
        return deficit_round_robin(self._flow_credits, costs, {flow: 1 / sizes[flow[0]] for flow in heads})

    def _largest_images(self) -> dict[str, int]:
        """The pixels of the largest image that is denoised of each owner."""
        largest: dict[str, int] = {}
        for future in self.denoising:
            owner = future.request.owner
            largest[owner] = max(largest.get(owner, 0), future.request.load)
        return largest

    def join(self, future: ImageFuture, state: DenoisingState, new_denoiser: Callable[[], Denoiser]) -> None:
        """Put an admitted request into its lane, with a new denoiser if the lane is new."""
        key = future.request.lane
        if key not in self.lanes:
            self.lanes[key] = Lane(new_denoiser())
        self.lanes[key].members.append((future, state))

    def next_call(self) -> Call | None:
        """The next call. Lanes share the pixel-steps by their owners, each of whom counts once in all its lanes.

        Within a call owners have equal shares. Of each owner, the requests that were admitted first take part.
        """
        if not self.lanes:
            return None
        lanes_of = Counter(owner for lane in self.lanes.values() for owner in lane.owners)
        calls = {key: self._call(lane, len(lanes_of)) for key, lane in self.lanes.items()}
        weights = {key: sum(1 / lanes_of[owner] for owner in lane.owners) for key, lane in self.lanes.items()}
        costs = {key: call.pixels for key, call in calls.items()}
        chosen, self._lane_credits = deficit_round_robin(self._lane_credits, costs, weights)
        return calls[chosen]

    def _call(self, lane: Lane, owners: int) -> Call:
        most = max(1, self.budget // max(future.request.load for future, _ in lane.members))
        left, members = fair_rows(lane.owners, most, owners), list[Member]()
        for member in lane.members:
            owner = member[0].request.owner
            if left[owner]:
                left[owner] -= 1
                members.append(member)
        return Call(lane, members)

    def release(self, future: ImageFuture) -> None:
        """Remove a request from its lane. An empty lane is removed with its denoiser."""
        key = future.request.lane
        lane = self.lanes[key]
        lane.members = [member for member in lane.members if member[0] is not future]
        if not lane.members:
            del self.lanes[key]

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
