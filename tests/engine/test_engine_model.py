"""The engine with the real pipeline: an image does not depend on the other images of its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import Tensor

from components.engine.budget import measure_budget
from components.engine.engine import Engine
from components.engine.request import Request
from components.engine.step import advance, begin
from components.errors import WordError
from components.model.attention import VisionKeyValues
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.tolerances import LEVEL, drawing_error


@pytest.fixture(scope="module")
def pipeline(miniature) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    """An adapter with random values, so that subjects make a difference."""
    made = random_adapter_pipeline(miniature)
    made.guidance = made.guidance.model_copy(update={"steps": 3})
    return made


@dataclass
class Subjects:
    cat: Subject
    robot: Subject


@pytest.fixture(scope="module")
def subjects(pipeline: RealCustomPipeline) -> Subjects:
    """A cat of one reference, and a robot of two with a face."""
    red = pipeline.encode_subject([Image.new("RGB", (128, 128), "red")])
    two = pipeline.encode_subject([Image.new("RGB", (128, 128), color) for color in ("blue", "white")])
    return Subjects(Subject(red, "cat"), Subject(two, "robot", 0.7, torch.arange(len(two)) < 20, 0.5, 1.2))


@pytest.fixture
def requests(subjects: Subjects, pipeline: RealCustomPipeline) -> list[Request]:
    def asked(prompt: str, seed: int, steps: int, *subjects: Subject, scale: float = 3.5, **more: Any) -> Request:
        return Request(prompt, seed, 64, 64, steps, scale, subjects=subjects, **more)

    def own(kind: Any) -> Any:
        return kind.from_config(pipeline.scheduler.config)

    given = torch.zeros(16, 16)
    given[4:12, 2:9] = 0.8
    return [
        asked("a red cat on the beach", 1, 4, subjects.cat),
        asked("a robot in the snow", 2, 7),
        asked("a robot and a cat in the snow", 3, 5, subjects.robot, subjects.cat, negative_prompt="at night"),
        asked("a cat at night", 4, 3, replace(subjects.cat, mask=given), scale=7.0),
        asked("a cat and a car", 5, 6, subjects.cat, scale=1.0, scheduler=own(DPMSolverMultistepScheduler)),
        asked("a robot", 6, 4, subjects.robot, mask_scope=0.6, scheduler=own(HeunDiscreteScheduler)),
        asked("a bird", 7, 5, scale=1.0, scheduler=own(UniPCMultistepScheduler)),
        asked("a red cat", 8, 5, subjects.cat, scheduler=own(EulerAncestralDiscreteScheduler)),
        asked("a cat", 9, 4, replace(subjects.cat, strength=0.5), eta=0.7, scheduler=own(DDIMScheduler)),
    ]


@torch.no_grad()
def drawn(pipeline: RealCustomPipeline, requests: Sequence[Request], joins: Sequence[int]) -> list[Tensor]:
    """The last latents of requests, each of which joins one denoiser before the step of its number."""
    denoiser, states = pipeline.denoiser(), {}
    for step in range(100):
        for index, request in enumerate(requests):
            if joins[index] == step:
                states[index] = begin(pipeline, request)
        active = [state for state in states.values() if not state.done]
        if len(states) == len(requests) and not active:
            break
        assert advance(denoiser, active) == [None] * len(active)
    return [states[index].latents for index in range(len(requests))]


def assert_same(pipeline: RealCustomPipeline, request: Request, one: Tensor, other: Tensor) -> None:
    """But for the order of sums, which depends on the batch."""
    solver = request.scheduler or pipeline.scheduler
    evaluations = request.steps * (2 if isinstance(solver, HeunDiscreteScheduler) else 1)
    allowed = drawing_error(pipeline.unet, one, evaluations, request.guidance_scale)
    assert (one - other).abs().max() < allowed, request.prompt
    assert allowed < 1e-3 * float(one.abs().max()), "far less than any subject, prompt or seed changes"


def called(pipeline: RealCustomPipeline, request: Request) -> Tensor:
    """The same by a call of the pipeline."""
    usual = pipeline.scheduler
    pipeline.scheduler = request.scheduler or usual
    try:
        output = pipeline(
            request.prompt,
            list(request.subjects),
            request.negative_prompt,
            request.steps,
            request.guidance_scale,
            request.height,
            request.width,
            generator=torch.Generator().manual_seed(request.seed),
            mask_scope=request.mask_scope,
            eta=request.eta,
            output_type="latent",
        )
    finally:
        pipeline.scheduler = usual
    assert isinstance(output.images, Tensor)
    return output.images


def test_the_same_alone_in_a_batch_and_by_a_call(pipeline: RealCustomPipeline, requests: list[Request]) -> None:
    alone = [drawn(pipeline, [request], [0])[0] for request in requests]
    for request, latents in zip(requests, alone, strict=True):
        assert torch.equal(latents, called(pipeline, request))
    pairs = [(a - b).abs().max() for i, a in enumerate(alone) for b in alone[:i]]
    assert min(pairs) > 0.01, "they differ from each other"
    for joins in ([0] * 9, [0, 1, 2, 3, 4, 4, 3, 2, 1], [8, 6, 5, 5, 3, 0, 1, 0, 2]):
        batched = drawn(pipeline, requests, joins)
        for request, one, other in zip(requests, alone, batched, strict=True):
            assert_same(pipeline, request, one, other)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "separate"},
        {"absent": "all"},
        {"source": "separate", "absent": "all", "self_attention": True},
        {"layers": ("up_blocks",), "self_attention": True},
    ],
)
def test_every_guidance_gives_the_same_in_a_batch_as_alone(
    pipeline: RealCustomPipeline, requests: list[Request], change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "guidance", pipeline.guidance.model_copy(update=change))
    alone = [drawn(pipeline, [request], [0])[0] for request in requests[:5]]
    together = drawn(pipeline, requests[:5], [0, 2, 1, 3, 0])
    for request, one, other in zip(requests[:5], alone, together, strict=True):
        assert_same(pipeline, request, one, other)


def test_keys_and_values_are_computed_once_for_each_request(
    pipeline: RealCustomPipeline, requests: list[Request]
) -> None:
    rows: list[int] = []
    layer = next(m for m in pipeline.adapter.modules() if isinstance(m, VisionKeyValues))
    text = next(m for name, m in pipeline.unet.named_modules() if name.endswith("attn2.to_k"))
    hooks = [layer.to_k_vision.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))]
    texts: list[int] = []
    hooks.append(text.register_forward_hook(lambda _, inputs, __: texts.append(len(inputs[0]))))
    with_cat = [replace(requests[0], seed=seed, steps=4) for seed in range(4)]
    drawn(pipeline, with_cat, [0, 1, 2, 3])
    for hook in hooks:
        hook.remove()
    assert sum(rows) == 4
    # Two rows of each, and the row of each one's text-only pass.
    assert sum(texts) == 4 * 2 + 4


def test_recorded_maps_of_some_rows_are_not_lost_when_a_call_fails(
    pipeline: RealCustomPipeline, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [drawn(pipeline, [request], [0])[0] for request in requests[:3]]
    forward, failed = pipeline.unet.forward, []

    def failing(latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = forward(latents, *args, **kwargs)
        if len(latents) > 2:
            failed.append(len(latents))
            raise RuntimeError("too many rows")
        return result

    monkeypatch.setattr(pipeline.unet, "forward", failing)
    together = drawn(pipeline, requests[:3], [0, 0, 1])
    assert len(failed) >= 4 and max(failed) == 6
    for request, one, other in zip(requests[:3], alone, together, strict=True):
        assert_same(pipeline, request, one, other)


def test_sizes_do_not_mix(pipeline: RealCustomPipeline, requests: list[Request]) -> None:
    denoiser = pipeline.denoiser()
    with torch.no_grad():
        inputs = [begin(pipeline, r).step_input() for r in (requests[0], replace(requests[1], width=96))]
        with pytest.raises(ValueError, match="one size"):
            denoiser(inputs)


def test_the_engine_generates_the_pipelines_images(pipeline: RealCustomPipeline, requests: list[Request]) -> None:
    few = [*requests[:4], replace(requests[2], width=96, seed=5), replace(requests[1], height=40)]
    few.insert(2, replace(requests[0], prompt="no such word"))
    engine = Engine(pipeline, pixel_budget=3 * 64 * 64)
    futures = [engine.submit(request) for request in few]
    assert engine.close(120)
    with pytest.raises(WordError):
        futures[2].result()
    for request, future in zip(few, futures, strict=True):
        if future is futures[2]:
            continue
        picture = future.result()
        with torch.no_grad():
            expected = pipeline.decode(called(pipeline, request))[0]
        assert picture.image.size == request.size and len(picture.masks) == len(request.subjects)
        differences = [abs(a - b) for a, b in zip(picture.image.tobytes(), expected.tobytes(), strict=True)]
        assert max(differences) <= LEVEL
    assert engine.stats().steps < sum(request.steps for request in few)


def test_the_budget_is_measured_in_whole_images(pipeline: RealCustomPipeline, requests: list[Request]) -> None:
    budget = measure_budget(pipeline, requests[0], most=2)
    assert budget in (64 * 64, 2 * 64 * 64)
