"""The generator over the real pipeline, untrained: what the painting fake cannot show."""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from components.characters.character import Reference
from components.characters.store import CharacterStore
from components.config import Config, load_config
from components.cut_outs import cut_out
from components.engine.request import Request
from components.engine.warmup import warm_up
from components.errors import WordError
from components.jobs.job import Preview
from components.model.control import Control
from components.model.miniature import MiniatureLayout
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomPipeline
from components.pictures import to_png
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.protocols import SubjectSource
from deploy.interfaces.requests import GenerationRequest, RequestedSubject, UploadedSubject
from deploy.interfaces.results import GenerationResult
from tests.deploy.test_serving_api import client_of, generate
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.random_controls import random_controls
from tests.fixtures.tolerances import LEVEL


@pytest.fixture(scope="module")
def reference() -> Reference:
    picture, mask = Image.new("RGB", (96, 96), "white"), Image.new("L", (96, 96))
    ImageDraw.Draw(picture).ellipse((20, 20, 76, 76), fill="red")
    ImageDraw.Draw(mask).ellipse((20, 20, 76, 76), fill=255)
    return Reference(picture, mask)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), np.int16)


def test_the_real_pipeline_serves_requests(config: Config, reference: Reference) -> None:
    pipeline = RealCustomPipeline.from_config(config)
    store = CharacterStore(Path(config.serving.store))
    character = store.create("Rob", "a robot", "robot", [reference, reference])
    service = GenerationService(pipeline, CharacterService(config))
    subject = RequestedSubject(character.id, "robot")
    request = GenerationRequest("a robot in the snow", "", 64, 72, 2, 3.5, (4, 5), (subject,), 0.3)

    result = asyncio.run(service.generate(request))
    assert [pixels(g.image).shape for g in result.images] == [(72, 64, 3)] * 2
    assert all([pixels(mask).shape for mask in g.masks] == [(72, 64)] for g in result.images)
    tokens = store.tokens(character.id, pipeline.token_identity)
    assert tokens is not None and tokens.tokens.ndim == 2

    async def looks() -> list[Preview]:
        return [news async for news in service.stream(request, 1) if isinstance(news, Preview)]

    assert [(look.step, pixels(look.png).shape) for look in asyncio.run(looks())] == [(1, (72, 64, 3))] * 2

    async def together() -> list[GenerationResult]:
        other = GenerationRequest("a red cat and a robot", "night", 64, 72, 3, 2.0, (9,), (subject,), 0.5)
        return list(await asyncio.gather(service.generate(other), service.generate(request)))

    batched_result = asyncio.run(together())[1]
    for alone, batched in zip(result.images, batched_result.images, strict=True):
        assert np.abs(pixels(alone.image) - pixels(batched.image)).max() <= LEVEL

    late = GenerationRequest("very " * 90 + "robot", "", 64, 72, 2, 3.5, (1,), (subject,), None)
    with pytest.raises(WordError, match="tokens"):
        asyncio.run(service.generate(late))
    assert service.close(10)


@pytest.mark.slow
def test_a_compiled_generator_draws_the_same(config: Config, reference: Reference) -> None:
    """`serving.compile`, warmed up as a generator is, alone and in a batch."""
    store = CharacterStore(Path(config.serving.store))
    subject = RequestedSubject(store.create("Rob", "a robot", "robot", [reference]).id, "robot")
    request = GenerationRequest("a robot in the snow", "", 64, 64, 3, 3.5, (4,), (subject,), 0.3)

    async def draw(service: GenerationService) -> list[GenerationResult]:
        other = replace(request, prompt="a red cat and a robot", seeds=(9,))
        alone = await service.generate(request)
        return [alone, *await asyncio.gather(service.generate(request), service.generate(other))]

    drawn = []
    for compiled in (False, True):
        pipeline = RealCustomPipeline.from_config(config)
        if compiled:
            pipeline.compile()
            warm_up(pipeline, [Request("a thing", seed=0, width=64, height=64, steps=3, guidance_scale=3.5)])
        service = GenerationService(pipeline, CharacterService(config))
        drawn.append(asyncio.run(draw(service)))
        assert service.close(60)
    for plain, quick in zip(*drawn, strict=True):
        assert np.abs(pixels(plain.images[0].image) - pixels(quick.images[0].image)).max() <= LEVEL


def test_a_subject_that_is_only_shown_is_named_and_drawn(reference: Reference) -> None:
    config = load_config("tiny")
    namer = partial(WordNamer.from_config, config.model, config.naming)
    service = GenerationService(RealCustomPipeline.from_config(config), cast(SubjectSource, None), namer=namer)
    shown = UploadedSubject((to_png(cut_out(reference.picture, reference.mask, 96)),), (None,))
    request = GenerationRequest(
        "on the beach", "", 64, 64, 2, 3.5, (1,), (RequestedSubject("", "", uploaded=shown),), None
    )
    result = asyncio.run(service.generate(request))
    (word,) = result.words
    assert word in WordNamer.from_config(config.model, config.naming).nouns
    assert result.prompt.endswith(f"{word} on the beach") and result.images[0].masks
    given = replace(request, prompt=result.prompt, subjects=(replace(request.subjects[0], word=word),))
    assert asyncio.run(service.generate(given)).images[0].image == result.images[0].image
    assert service.close(10)


@pytest.mark.parametrize("name", ["pose", "sketch"])
def test_a_control_over_http_is_that_of_the_pipeline(miniature: MiniatureLayout, tmp_path: Path, name: str) -> None:
    controls = [f"model.controls.{each}={path}" for each, path in random_controls(miniature, tmp_path).items()]
    pipeline = random_adapter_pipeline(miniature, *controls)
    config = load_config("tiny", [f"serving.store={tmp_path}/characters", *controls])
    characters = CharacterService(config)
    service = GenerationService(pipeline, characters)
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 256, (96, 160, 3), dtype=np.uint8))
    sent = {"name": name, "image": base64.b64encode(to_png(noise)).decode(), "scale": 0.6, "start": 0.25, "end": 1}
    sampled = {"size": "96x64", "steps": 4, "guidance_scale": 3.5, "seed": 4}
    client = client_of(config, characters, service)
    made = []
    for control in (sent, None):
        answer = generate(client, "a red cat", **sampled, control=control)
        assert answer.status_code == 200, answer.text
        made.append(pixels(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    assert service.close(60)
    expected = pipeline(
        "a red cat",
        num_inference_steps=4,
        guidance_scale=3.5,
        height=64,
        width=96,
        generator=torch.Generator().manual_seed(4),
        control=Control(name, noise, 0.6, 0.25, 1.0),
    ).images[0]
    assert np.abs(made[0] - np.asarray(expected, np.int16)).max() <= LEVEL
    assert np.abs(made[0] - made[1]).max() > LEVEL, "it acts"
