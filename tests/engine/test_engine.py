"""The engine's threads with states that only count: which requests share a step, and how requests end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from components.engine.engine import Engine
from components.engine.future import ImageFuture
from components.engine.request import CancelledError, ClosedError, ExpiredError, Phase, Request, StepProgress
from components.model.generation_request import GenerationRequest

BUDGET = 4 * 64 * 64


class CountingState:
    def __init__(self, prompt: str, total: int, seed: int) -> None:
        self.prompt, self.total, self.seed, self.step = prompt, total, seed, 0
        self.latents, self.mask_history = torch.zeros(1, 4, 8, 8), list[Tensor]()

    @property
    def done(self) -> bool:
        return self.step == self.total

    def step_input(self) -> CountingState:
        return self

    def advance(self, prediction: int) -> None:
        if self.prompt == "bad step" and self.step == 1:
            raise ValueError("bad step")
        self.step, self.latents = self.step + 1, self.latents + prediction


class CountingPipeline:
    """Steps only as far as the test lets it, if it is held."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.let, self.held = threading.Semaphore(0), False
        self.decoding_allowed = threading.Event()
        self.decoding_allowed.set()
        self.threads: set[str] = set()

    def begin(self, request: GenerationRequest) -> CountingState:
        (prompt,) = request.prompts
        if prompt == "bad prompt":
            raise ValueError("bad prompt")
        self.threads.add(threading.current_thread().name)
        assert isinstance(request.generator, torch.Generator)
        return CountingState(prompt, request.num_inference_steps, request.generator.initial_seed())

    def denoiser(self) -> Any:
        def call(states: Sequence[CountingState]) -> list[int]:
            if self.held:
                assert self.let.acquire(timeout=10)
            self.calls.append([state.prompt for state in states])
            if any(state.prompt == "bad call" for state in states):
                raise RuntimeError("bad call")
            return [state.seed for state in states]

        return call

    def finish(self, state: CountingState) -> SimpleNamespace:
        assert self.decoding_allowed.wait(10)
        if state.prompt == "bad end":
            raise RuntimeError("bad end")
        return SimpleNamespace(images=[Image.new("L", (8, 8), int(state.latents.max()))], masks=None)


@pytest.fixture
def pipeline() -> CountingPipeline:
    return CountingPipeline()


@pytest.fixture
def engine(pipeline: CountingPipeline) -> Iterator[Engine]:
    made = Engine(pipeline, BUDGET)
    yield made
    pipeline.held = False
    pipeline.let.release(1000)
    pipeline.decoding_allowed.set()
    assert made.close(10)


def asked(prompt: str, steps: int = 3, seed: int = 1, side: int = 64, **more: Any) -> Request:
    return Request(prompt, seed, side, side, steps, 3.5, **more)


def value(future: ImageFuture) -> int:
    return int(future.result(10).image.getpixel((0, 0)))  # type: ignore[arg-type]


def until_called(pipeline: CountingPipeline, count: int) -> None:
    """Let the steps up to the ``count``-th through, and wait until it is over."""
    while len(pipeline.calls) < count:
        pipeline.let.release()
        threading.Event().wait(0.01)


def test_requests_join_and_leave_between_steps(engine: Engine, pipeline: CountingPipeline) -> None:
    pipeline.held = True
    first = engine.submit(asked("a", steps=4, seed=10))
    until_called(pipeline, 1)
    others = [engine.submit(asked("b", steps=2, seed=20)), engine.submit(asked("c", steps=9, seed=3))]
    pipeline.held = False
    pipeline.let.release(20)
    assert [value(future) for future in (first, *others)] == [40, 40, 27]
    batches = ["".join(sorted(call)) for call in pipeline.calls]
    assert batches.count("ac") + batches.count("abc") + batches.count("a") == 4
    assert "abc" in batches and batches[-1] == "c"
    assert len(batches) < 4 + 2 + 9, "they shared steps"
    assert first.since[Phase.QUEUED] <= first.since[Phase.ENCODING] <= first.since[Phase.DONE]
    assert first.phase is Phase.DONE and first.seconds(Phase.QUEUED, Phase.DONE) > 0


def test_the_budget_limits_the_pixels_of_a_step(engine: Engine, pipeline: CountingPipeline) -> None:
    futures = [engine.submit(asked(str(i), seed=i)) for i in range(10)]
    large = engine.submit(asked("large", side=256))
    assert [value(future) for future in futures] == [3 * i for i in range(10)]
    assert value(large) == 3
    assert max(len(call) for call in pipeline.calls) <= 4
    assert all(call == ["large"] for call in pipeline.calls if "large" in call)


def test_an_owner_with_many_requests_does_not_slow_down_one_with_few(
    engine: Engine, pipeline: CountingPipeline
) -> None:
    pipeline.held = True
    many = [engine.submit(asked("many", steps=8, seed=i, owner="many")) for i in range(12)]
    until_called(pipeline, 1)
    before = len(pipeline.calls)
    few = engine.submit(asked("few", steps=8, seed=5, owner="few"))
    pipeline.held = False
    pipeline.let.release(1000)
    assert value(few) == 40
    assert [value(future) for future in many] == [8 * i for i in range(12)], "what paused goes on"
    shared = [call for call in pipeline.calls if "few" in call]
    assert shared == [["many", "few"]] * 8
    assert pipeline.calls.index(shared[0]) <= before + 1, "it does not wait until one of the others is done"
    assert max(map(len, pipeline.calls)) == 4


def test_a_failing_request_fails_alone_wherever_it_fails(engine: Engine, pipeline: CountingPipeline) -> None:
    pipeline.held = True
    good = engine.submit(asked("good", steps=6, seed=2))
    bad = [engine.submit(asked(prompt)) for prompt in ("bad prompt", "bad call", "bad step", "bad end")]
    pipeline.held = False
    pipeline.let.release(100)
    assert value(good) == 12
    for future in bad:
        with pytest.raises((ValueError, RuntimeError), match=future.request.prompt):
            future.result(10)
        assert future.phase is Phase.FAILED
    assert engine.stats().ended == {Phase.DONE: 1, Phase.FAILED: 4}
    assert value(engine.submit(asked("good"))) == 3


def test_cancelling_and_deadlines_act_at_the_next_step(pipeline: CountingPipeline) -> None:
    now = [0.0]
    engine = Engine(pipeline, BUDGET, clock=lambda: now[0])
    pipeline.held = True
    stays, gone, late = (engine.submit(asked(p, steps=50, deadline=d)) for p, d in (("s", None), ("g", None), ("l", 9)))
    until_called(pipeline, 2)
    gone.cancel()
    now[0] = 9.0
    until_called(pipeline, 5)
    with pytest.raises(CancelledError):
        gone.result(10)
    with pytest.raises(ExpiredError):
        late.result(10)
    assert pipeline.calls[-1] == ["s"]
    never = engine.submit(asked("n", deadline=8.0))
    pipeline.held = False
    pipeline.let.release(100)
    with pytest.raises(ExpiredError):
        never.result(10)
    assert value(stays) == 50
    assert never.phase is Phase.EXPIRED and Phase.ENCODING not in never.since
    stays.cancel()
    assert stays.phase is Phase.DONE and value(stays) == 50
    assert engine.close(10)


def test_a_request_cancelled_before_its_decoding_is_not_decoded(engine: Engine, pipeline: CountingPipeline) -> None:
    pipeline.decoding_allowed.clear()
    first, second = engine.submit(asked("a", steps=1)), engine.submit(asked("b", steps=1))
    while second.phase is not Phase.DECODING:
        threading.Event().wait(0.01)
    assert engine.stats().decoding == 2
    third = engine.submit(asked("c", steps=3))
    while third.phase is not Phase.DECODING:  # steps go on while the decoder is busy
        threading.Event().wait(0.01)
    second.cancel()
    pipeline.decoding_allowed.set()
    assert (value(first), value(third)) == (1, 3)
    with pytest.raises(CancelledError):
        second.result(10)


def test_progress_is_reported_step_by_step(engine: Engine, pipeline: CountingPipeline) -> None:
    async def follow() -> tuple[list[StepProgress], Any]:
        pipeline.held = True
        future = engine.submit(asked("a", steps=5, preview_every=2))
        seen = []
        following = future.steps()
        pipeline.let.release(5)
        async for progress in following:
            seen.append(progress)
        return seen, await future.picture()

    seen, picture = asyncio.run(follow())
    assert seen and [p.step for p in seen] == list(range(seen[0].step, 6)) and {p.total for p in seen} == {5}
    assert all((p.latents is not None) == (p.step % 2 == 0) for p in seen)
    assert picture.image.size == (8, 8)


def test_cancelling_the_awaiting_task_cancels_the_request(engine: Engine, pipeline: CountingPipeline) -> None:
    pipeline.held = True
    future = engine.submit(asked("a", steps=50))

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future.picture(), 0.05)

    asyncio.run(give_up())
    pipeline.let.release(2)
    with pytest.raises(CancelledError):
        future.result(10)
    assert len(pipeline.calls) <= 2


def test_a_progress_callback_that_raises_is_removed(engine: Engine) -> None:
    future = engine.submit(asked("a", steps=30))
    reported: list[int] = []

    def fail(progress: StepProgress) -> None:
        reported.append(progress.step)
        raise RuntimeError("callback")

    future.add_progress_callback(fail)
    assert value(future) == 30 and len(reported) <= 1


def test_closing_finishes_requests_and_refuses_new_ones(pipeline: CountingPipeline) -> None:
    engine = Engine(pipeline, BUDGET)
    futures = [engine.submit(asked(str(i), seed=i)) for i in range(9)]
    assert engine.close(10)
    assert [future.phase for future in futures] == [Phase.DONE] * 9
    with pytest.raises(ClosedError):
        engine.submit(asked("a"))
    assert Engine(pipeline, BUDGET).close()
    assert pipeline.threads == {"engine"}


def test_statistics_show_a_stuck_engine(pipeline: CountingPipeline) -> None:
    now = [0.0]
    engine = Engine(pipeline, BUDGET, clock=lambda: now[0])
    now[0] = 100.0
    assert engine.stats().silent_s == 0, "an idle engine is not stuck"
    pipeline.held = True
    futures = [engine.submit(asked(str(i), steps=2)) for i in range(6)]
    until_called(pipeline, 1)
    while engine.stats().steps < 1:
        threading.Event().wait(0.01)
    now[0] += 30
    stats = engine.stats()
    assert stats.silent_s == 30
    assert stats.queued + stats.denoising == 6 and stats.pixels <= stats.budget == BUDGET
    pipeline.held = False
    pipeline.let.release(100)
    assert all(value(future) == 2 for future in futures)
    assert engine.close(10)
    stats = engine.stats()
    assert (stats.queued, stats.denoising, stats.decoding, stats.silent_s) == (0, 0, 0, 0)
    assert stats.ended == {Phase.DONE: 6} and stats.steps == len(pipeline.calls) >= 4


def test_other_calls_run_beside_the_steps(engine: Engine, pipeline: CountingPipeline) -> None:
    pipeline.held = True
    future = engine.submit(asked("a"))
    assert engine.beside(lambda a, b: a + b, 2, 3).result(10) == 5
    pipeline.let.release(3)
    assert value(future) == 3


def test_pictures_are_decoded_after_the_work_that_their_own_thread_asked_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, float]] = []

    class Recording:
        def mark(self, latents: Tensor) -> str:
            seen.append(("mark", threading.current_thread().name, float(latents.max())))
            return "here"

        @contextmanager
        def after(self, mark: str, tensors: list[Tensor]) -> Iterator[None]:
            seen.append((f"after {mark}", threading.current_thread().name, float(tensors[0].max())))
            yield

    monkeypatch.setattr(engine, "_decoding", Recording())
    assert value(engine.submit(asked("a", steps=3, seed=2))) == 6
    assert seen == [("mark", "engine", 6.0), ("after here", "decoder_0", 6.0)]


def test_an_error_of_the_engine_itself_ends_all_requests(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.engine.engine.advance", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.submit(asked("a")).result(10)
    monkeypatch.undo()
    assert value(engine.submit(asked("a"))) == 3
