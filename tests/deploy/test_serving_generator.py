"""The generator part: requests share the engine and do not affect each other."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from components.characters.character import Portraits, SubjectTokens
from components.config import load_config
from components.engine.request import Phase
from components.errors import NotFoundError, WordError
from components.jobs.job import JobProgress, Preview
from deploy.characters.service import CharacterService
from deploy.generator.loading import measure_pixel_budget
from deploy.generator.service import GenerationService, GeneratorLimits
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.requests import GenerationRequest, RequestedSubject
from deploy.interfaces.results import GenerationResult
from tests.fakes.pipeline import READ_WORDS, FakePipeline

PLAIN = GenerationRequest("a robot on the beach", "", 64, 64, 4, 3.5, (1,), (), None)
WITH = replace(PLAIN, subjects=(RequestedSubject("red", "robot"),))


class Kept:
    """Characters whose tokens are colours."""

    async def portraits(self, identifier: str, size: int) -> Portraits:
        raise NotFoundError("no such character")

    async def tokens(self, identifier: str, identity: str) -> SubjectTokens | None:
        colors = {"red": [255.0, 0.0, 0.0], "blue": [0.0, 0.0, 255.0]}
        return SubjectTokens(torch.tensor([colors[identifier]])) if identifier in colors else None

    async def put_tokens(self, identifier: str, identity: str, revision: int, subject: SubjectTokens) -> bool:
        raise AssertionError("there is nothing to keep")


def generate_all(service: GenerationService, *requests: GenerationRequest) -> list[GenerationResult | BaseException]:
    """The outcome of requests that arrive at the same time."""

    async def gather() -> list[GenerationResult | BaseException]:
        return await asyncio.gather(*(service.generate(request) for request in requests), return_exceptions=True)

    return asyncio.run(gather())


def pictures(result: GenerationResult | BaseException) -> list[tuple[bytes, tuple[bytes, ...]]]:
    assert isinstance(result, GenerationResult)
    return [(image.image, image.masks) for image in result.images]


def test_requests_share_steps_whatever_their_parameters() -> None:
    pipeline = FakePipeline()
    service = GenerationService(pipeline, Kept())
    requests = [
        replace(PLAIN, prompt="a slow robot", steps=9),
        replace(WITH, seeds=(2, 3)),
        replace(PLAIN, prompt="another", negative_prompt="blurry", guidance_scale=2.0, seeds=(7,)),
        replace(WITH, mask_scope=0.5, subjects=(RequestedSubject("blue", "robot", 0.5),)),
    ]
    together = generate_all(service, *requests)
    assert service.close(10)
    assert max(pipeline.calls) > 3 and sum(pipeline.calls) == 9 + 8 + 4 + 4
    for request, result in zip(requests, together, strict=True):
        alone = GenerationService(FakePipeline(), Kept())
        assert pictures(generate_all(alone, request)[0]) == pictures(result)
    assert len({picture for result in together for picture in pictures(result)}) == 5
    timings = together[0].timings if isinstance(together[0], GenerationResult) else {}
    assert timings["draw_s"] >= 0.5 > timings["wait_s"] >= 0


def test_a_request_that_fails_does_not_affect_others() -> None:
    service = GenerationService(FakePipeline(), Kept())
    late = replace(WITH, prompt="very " * READ_WORDS + "robot", seeds=(1, 2, 3))
    results = generate_all(service, WITH, late, replace(WITH, subjects=(RequestedSubject("unknown", "robot"),)), PLAIN)
    assert [type(result) for result in results] == [GenerationResult, WordError, NotFoundError, GenerationResult]


def test_a_request_that_times_out_is_cancelled() -> None:
    slow = replace(PLAIN, prompt="a slow robot", seeds=(1, 2))
    service = GenerationService(FakePipeline(), Kept(), GeneratorLimits(timeout_s=0.2))
    expired, patient = generate_all(service, slow, replace(slow, timeout_s=60))
    assert isinstance(expired, UnavailableError) and isinstance(patient, GenerationResult)
    assert service.stats().ended == {Phase.EXPIRED: 2, Phase.DONE: 2}


class Counted(Kept):
    """Knows which tokens were fetched, and whether somebody still has them."""

    def __init__(self) -> None:
        self.fetched: list[weakref.ref[SubjectTokens]] = []

    async def tokens(self, identifier: str, identity: str) -> SubjectTokens | None:
        tokens = await super().tokens(identifier, identity)
        assert tokens is not None
        self.fetched.append(weakref.ref(tokens))
        return tokens


def test_tokens_of_a_revision_just_read_are_fetched_once_and_then_forgotten() -> None:
    characters = Counted()
    service = GenerationService(FakePipeline(), characters, GeneratorLimits(cache_s=0.5))
    first, changed = (
        replace(WITH, subjects=(RequestedSubject("red", "robot", revision=revision),)) for revision in (1, 2)
    )

    async def story() -> None:
        drawn = [await service.generate(request) for request in (first, first, changed, first)]
        assert len(characters.fetched) == 2 and len({str(pictures(result)) for result in drawn}) == 1
        await service.generate(first.without_revisions())
        assert len(characters.fetched) == 3, "what was read some time ago is not trusted"
        await asyncio.sleep(0.6)
        gc.collect()
        assert not any(tokens() for tokens in characters.fetched)
        await service.generate(first)
        assert len(characters.fetched) == 4

    asyncio.run(story())


def test_nothing_is_cached_where_that_is_not_wanted() -> None:
    characters = Counted()
    service = GenerationService(FakePipeline(), characters)
    request = replace(WITH, subjects=(RequestedSubject("red", "robot", revision=1),))
    assert pictures(generate_all(service, request)[0]) == pictures(generate_all(service, request)[0])
    assert len(characters.fetched) == 2


def test_cancelling_the_call_cancels_the_generation() -> None:
    pipeline = FakePipeline()
    service = GenerationService(pipeline, Kept())

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.generate(replace(PLAIN, prompt="a slow robot", steps=50)), 0.1)

    asyncio.run(leave())
    assert service.close(10)
    assert service.stats().ended == {Phase.CANCELLED: 1} and len(pipeline.calls) < 40


def test_requests_fail_with_the_reason(tmp_path: Path) -> None:
    characters = CharacterService(load_config("tiny", [f"serving.store={tmp_path}"]))
    service = GenerationService(FakePipeline(), characters)
    with pytest.raises(WordError):
        asyncio.run(service.generate(replace(WITH, prompt="robotics in category theory")))
    with pytest.raises(NotFoundError):
        asyncio.run(service.generate(WITH))


def test_a_stream_yields_progress_and_previews() -> None:
    service = GenerationService(FakePipeline(), Kept())

    async def draw(previews: int) -> list[JobProgress | Preview | GenerationResult]:
        request = replace(PLAIN, prompt="a slow robot", steps=9, seeds=(1, 2))
        return [news async for news in service.stream(request, previews)]

    *told, result = asyncio.run(draw(2))
    assert isinstance(result, GenerationResult) and len(result.images) == 2
    steps = [news for news in told if isinstance(news, JobProgress)]
    assert all(a.step <= b.step and a.pictures_done <= b.pictures_done for a, b in pairwise(steps))
    assert len(steps) >= 9 and (steps[-1].step, steps[-1].total, steps[-1].pictures) == (18, 18, 2)
    looks = [(news.picture, news.step) for news in told if isinstance(news, Preview)]
    assert sorted(looks) == [(0, 3), (0, 6), (1, 3), (1, 6)], "the last step's look would be the picture itself"
    assert not any(isinstance(news, Preview) for news in asyncio.run(draw(0)))


def test_closing_a_stream_cancels_the_generation() -> None:
    pipeline = FakePipeline()
    service = GenerationService(pipeline, Kept())

    async def leave() -> None:
        async with aclosing(service.stream(replace(PLAIN, prompt="a slow robot", steps=50))) as told:
            async for _ in told:
                return

    asyncio.run(leave())
    assert service.close(10)
    assert service.stats().ended == {Phase.CANCELLED: 1} and len(pipeline.calls) < 40
    with pytest.raises(UnavailableError, match="restarted"):
        asyncio.run(service.generate(PLAIN))


def test_the_encoders_identity_is_computed_once() -> None:
    pipeline = FakePipeline()
    service = GenerationService(pipeline, Kept())
    assert all(isinstance(result, GenerationResult) for result in generate_all(service, WITH, WITH, WITH))
    assert service.close(10) and pipeline.identified == 1


def test_the_budget_is_measured_for_the_configured_size() -> None:
    pipeline = FakePipeline()
    budget = measure_pixel_budget(pipeline, load_config("tiny").sampling)
    assert budget % (64 * 64) == 0 and max(pipeline.calls) >= budget // (64 * 64)
