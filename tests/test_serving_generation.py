"""The generator part: which shots share a pipeline call, and what they do to each other (nothing)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.characters.store import SubjectTokens
from components.config import load_config
from components.errors import NotFoundError, WordError
from deploy.characters import CharacterService
from deploy.generation import GenerationService, Shot
from deploy.protocols import Drawing, Order, Subject
from tests.serving_fakes import READ_WORDS, FakePipeline

PLAIN = Order("a robot on the beach", "", 64, 64, 4, 3.5, (1,), None, None)
WITH = replace(PLAIN, subjects=(Subject("char-1", "robot"),))
TOKENS = torch.full((1, 3), 200.0)
KEPT = (SubjectTokens(TOKENS),)


@pytest.fixture
def characters(tmp_path: Path) -> CharacterService:
    return CharacterService(load_config("tiny", [f"serving.store={tmp_path}"]))


def draw(pipeline: FakePipeline, characters: CharacterService, shots: list[Shot]) -> list[object]:
    return list(asyncio.run(GenerationService(pipeline, characters).draw_together(shots)))


def test_shots_share_a_call_only_if_it_can_serve_both(characters: CharacterService) -> None:
    pipeline = FakePipeline()
    shots = [
        Shot(PLAIN, 1, ()),
        Shot(WITH, 2, KEPT),
        Shot(replace(PLAIN, prompt="another", negative_prompt="blurry"), 3, ()),
        Shot(replace(PLAIN, width=128), 4, ()),
        Shot(replace(PLAIN, steps=9), 5, ()),
        Shot(replace(PLAIN, guidance_scale=2.0), 6, ()),
        Shot(replace(WITH, prompt="my robot"), 7, (SubjectTokens(TOKENS + 1),)),
        Shot(replace(WITH, mask_scope=0.5), 8, KEPT),
        Shot(WITH, 9, (SubjectTokens(TOKENS.repeat(2, 1)),)),
        Shot(replace(WITH, subjects=(Subject("char-1", "robot", 0.5),)), 10, KEPT),
    ]
    draw(pipeline, characters, shots)
    # Other strengths and numbers of references go together; other sizes, steps, scales and scopes do not.
    assert sorted(pipeline.calls) == [1, 1, 1, 1, 2, 4]


def test_company_changes_no_picture_and_no_order(characters: CharacterService) -> None:
    shots = [Shot(PLAIN, 1, ()), Shot(WITH, 2, KEPT), Shot(PLAIN, 3, ()), Shot(WITH, 1, (SubjectTokens(TOKENS / 2),))]
    together = draw(FakePipeline(), characters, shots)
    alone = [draw(FakePipeline(), characters, [shot])[0] for shot in shots]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Drawing) and isinstance(other, Drawing)
        assert (one.picture, one.masks) == (other.picture, other.masks)
    assert len({drawing.picture for drawing in together if isinstance(drawing, Drawing)}) == len(shots)


def test_a_shot_that_cannot_be_drawn_spoils_no_other(characters: CharacterService) -> None:
    late = replace(WITH, prompt="very " * READ_WORDS + "robot")
    results = draw(FakePipeline(), characters, [Shot(WITH, 1, KEPT), Shot(late, 2, KEPT), Shot(WITH, 3, KEPT)])
    assert [type(result) for result in results] == [Drawing, WordError, Drawing]


def test_orders_fail_with_the_reason(characters: CharacterService) -> None:
    service = GenerationService(FakePipeline(), characters)
    with pytest.raises(WordError):
        asyncio.run(service.generate(replace(WITH, prompt="robotics in category theory")))
    with pytest.raises(NotFoundError):
        asyncio.run(service.generate(WITH))
