"""The engine's decisions, by numbers alone: fairness, admission, early ends, and how large a batch pays."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.engine.budget import best_batch
from components.engine.future import ImageFuture
from components.engine.policy import deficit_round_robin, early_end, fair_rows, fits
from components.engine.request import AFTER, Phase, Request
from components.engine.request_queue import RequestQueue


def request(owner: str = "", side: int = 64, steps: int = 20, deadline: float | None = None) -> Request:
    return Request("a cat", 0, side, side, steps, 3.5, owner=owner, deadline=deadline)


def future_of(asked: Request) -> ImageFuture:
    return ImageFuture(asked, lambda: 0.0, lambda: None)


class State:
    latents, step, total, done = None, 0, 1, False


def admitted(queue: RequestQueue) -> ImageFuture | None:
    """The next admitted request, in its lane."""
    found = queue.admit()
    if found is not None:
        found.enter(Phase.ENCODING)
        queue.join(found, State(), object)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_flows_are_served_by_weight_whatever_their_items_cost(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {"small": 4, "large": 300, "heavy": 20}
    weights = {"small": 1.0, "large": 1.0, "heavy": 3.0}
    credits: dict[str, float] = {}
    served: Counter[str] = Counter()
    for _ in range(3000):
        costs = {name: rng.uniform(0.5, 1) * size for name, size in sizes.items()}
        chosen, credits = deficit_round_robin(credits, costs, weights)
        served[chosen] += costs[chosen]
        assert all(0 <= credit <= 300 for credit in credits.values())
    shares = [served[name] / weights[name] for name in sizes]
    assert max(shares) - min(shares) <= 2 * 300


def test_equal_flows_alternate_and_an_idle_flow_loses_its_credit() -> None:
    credits: dict[str, float] = {}
    order = ""
    for _ in range(6):
        chosen, credits = deficit_round_robin(credits, {"a": 1, "b": 1, "c": 1})
        order += chosen
    assert order == "abcabc"
    _, credits = deficit_round_robin(credits, {"a": 5, "b": 9})
    assert credits["b"] > 0 and "c" not in credits
    _, credits = deficit_round_robin(credits, {"a": 5})
    assert "b" not in credits


def test_an_image_fits_in_the_budget_or_alone() -> None:
    assert fits(10, 0, 5) and fits(5, 5, 10)
    assert not fits(6, 5, 10)


def test_a_request_ends_early_when_cancelled_or_late() -> None:
    assert early_end(False, None, 1e9) is None and early_end(False, 5.0, 4.9) is None
    assert early_end(False, 5.0, 5.0) is Phase.EXPIRED
    assert early_end(True, 5.0, 9.0) is Phase.CANCELLED


def test_phases_lead_to_an_end_and_never_back() -> None:
    way = [Phase.QUEUED, Phase.ENCODING, Phase.DENOISING, Phase.DECODING, Phase.DONE]
    assert all(later in AFTER[earlier] for earlier, later in pairwise(way))
    for phase in Phase:
        assert not any(way.index(after) <= way.index(phase) for after in AFTER[phase] if after in way)
        assert phase.final == (phase not in way[:-1])
    moved = future_of(request())
    moved.enter(Phase.ENCODING)
    with pytest.raises(AssertionError, match="not followed by"):
        moved.enter(Phase.DONE)


def test_large_images_do_not_starve_small_ones_nor_small_ones_large_ones() -> None:
    queue = RequestQueue(budget=4 * 128 * 128)
    for size in (128, 64):
        queue.waiting += [future_of(request("someone", size)) for _ in range(40)]
    admissions: Counter[int] = Counter()
    while any(waiting.request.width == 64 for waiting in queue.waiting):
        while found := admitted(queue):
            admissions[found.request.width] += 1
        call = queue.next_call()
        assert call is not None
        queue.release(call.members[0][0])
    assert admissions[64] == 40 and 9 <= admissions[128] <= 11, "four small ones for each large one"


def test_an_owner_with_many_requests_does_not_starve_one_with_few() -> None:
    queue = RequestQueue(budget=64 * 64)
    queue.waiting += [future_of(request("greedy")) for _ in range(50)] + [
        future_of(request("modest")) for _ in range(3)
    ]
    owners = []
    for _ in range(6):
        found = admitted(queue)
        assert found is not None
        owners.append(found.request.owner)
        queue.release(found)
    assert owners == ["greedy", "modest"] * 3


def test_nothing_overtakes_a_request_that_waits_for_room() -> None:
    queue = RequestQueue(budget=2 * 64 * 64)
    queue.waiting = [
        future_of(request("a")),
        future_of(request("b", 96, steps=1)),
        future_of(request("c", 64, steps=1)),
    ]
    cheapest = admitted(queue)
    assert cheapest is not None and cheapest.request.owner == "c"
    assert admitted(queue) is None, "it is b's turn; a would fit but has to wait"
    queue.release(cheapest)
    large = admitted(queue)
    assert large is not None and large.request.owner == "b" and queue.pixels > queue.budget, "alone it always fits"
    small = admitted(queue)
    assert small is not None and small.request.owner == "a", "its calls alternate with those of the large one"


@pytest.mark.parametrize("seed", range(5))
def test_the_budget_is_kept_and_every_request_is_served(seed: int) -> None:
    rng = random.Random(seed)
    queue = RequestQueue(budget=5 * 64 * 64)
    expected = 60
    queue.waiting = [
        future_of(request(rng.choice("abc"), rng.choice((64, 96, 128)), rng.randint(1, 50))) for _ in range(expected)
    ]
    served = 0
    while not queue.empty:
        while admitted(queue):
            assert queue.pixels < 2 * queue.budget or len(queue.denoising) == 1
        call = queue.next_call()
        assert call is not None and (call.pixels <= queue.budget or len(call.members) == 1)
        queue.release(rng.choice(call.members)[0])
        served += 1
    assert served == expected


def test_many_sizes_do_not_multiply_the_share_of_an_owner() -> None:
    queue = RequestQueue(budget=10**9)
    queue.waiting = [future_of(request("a", side)) for side in range(64, 640, 64)] + [future_of(request("b", 64))]
    while admitted(queue):
        pass
    pixel_steps: Counter[str] = Counter()
    for _ in range(20_000):
        call = queue.next_call()
        assert call is not None
        pixel_steps.update({future.request.owner: future.request.pixels for future, _ in call.members})
    assert pixel_steps["b"] <= pixel_steps["a"] <= 3 * pixel_steps["b"]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), st.integers(1, 16), st.integers(0, 3)
)
def test_owners_get_equal_numbers_of_the_rows_of_a_call(held: dict[str, int], most: int, elsewhere: int) -> None:
    rows = fair_rows(held, most, len(held) + elsewhere)
    assert rows.keys() == held.keys() and all(1 <= rows[owner] <= held[owner] for owner in held)
    if len(held) == 1:
        assert sum(rows.values()) == min(sum(held.values()), max(1, most // (1 + elsewhere)))
    else:
        assert sum(rows.values()) <= max(most, len(held))
        for owner, count in rows.items():
            others = max(rows[other] for other in held if other != owner)
            assert count <= others or count == 1, "nobody gets more than another one who has as many or fewer"
            assert count >= min(others, held[owner]), "who has images gets as many"


def test_a_newcomer_does_not_wait_for_those_who_have_several() -> None:
    queue = RequestQueue(budget=4 * 64 * 64)
    queue.waiting = [future_of(request("greedy")) for _ in range(40)]
    while admitted(queue):
        pass
    assert len(queue.denoising) == 4
    newcomers = [future_of(request(owner)) for owner in ("b", "b", "c", "d", "e")]
    queue.waiting += newcomers
    joined = []
    while (found := admitted(queue)) is not None:
        joined.append(found)
    assert [future.request.owner for future in joined] == ["b", "c", "d"], "one of each, as far as a call has places"
    call = queue.next_call()
    assert call is not None and call.pixels == queue.budget
    assert sorted(future.request.owner for future, _ in call.members) == ["b", "c", "d", "greedy"]
    first = next(future for future, _ in call.members if future.request.owner == "greedy")
    assert first is queue.denoising[0], "of each owner the oldest goes on"
    for future in joined:
        queue.release(future)
    call = queue.next_call()
    assert call is not None and len(call.members) == 4, "alone again it has all places"


def test_an_image_that_takes_the_whole_budget_does_not_hold_up_small_ones() -> None:
    queue = RequestQueue(budget=4 * 64 * 64)
    queue.waiting = [future_of(request("large", 512))]
    assert admitted(queue) is not None
    queue.waiting += [future_of(request("large", 512)), future_of(request("small"))]
    small = admitted(queue)
    assert small is not None and small.request.owner == "small"
    assert admitted(queue) is None
    calls = [queue.next_call() for _ in range(130)]
    assert sum(call.pixels == 64 * 64 for call in calls if call is not None) >= 120


def test_cancelled_and_expired_requests_leave_queue_and_lane() -> None:
    queue = RequestQueue(budget=64 * 64)
    running, late, gone, stays = (future_of(request(deadline=d)) for d in (None, 5.0, None, 50.0))
    queue.waiting = [running, late, gone, stays]
    assert admitted(queue) is running
    assert queue.drop_ended(4.0) == []
    running.cancel()
    gone.cancel()
    assert queue.drop_ended(5.0) == [
        (late, Phase.EXPIRED),
        (gone, Phase.CANCELLED),
        (running, Phase.CANCELLED),
    ]
    assert queue.waiting == [stays] and queue.lanes == {}


def test_the_batch_grows_while_that_pays_and_memory_lasts() -> None:
    def flat_from(count: int) -> float:
        return best_batch(lambda n: max(1.0, n / count))

    assert [flat_from(count) for count in (1, 4, 16)] == [1, 4, 16]
    assert flat_from(1000) == 32
    assert best_batch(lambda n: None if n > 4 else 1.0) == 4
    assert best_batch(lambda n: None) == 1
    assert best_batch(lambda n: n**1.5) == 1, "larger is slower"
    hiccup = {1: 1.0, 2: 2.0, 4: 2.0, 8: 4.0, 16: math.inf, 32: math.inf}
    assert best_batch(hiccup.__getitem__) == 4
