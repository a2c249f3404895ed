"""Ways of showing a subject, compared on the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.config import load_config
from components.evaluation.toybench import SubjectSimilarity, cases
from components.evaluation.tradeoff import draw_tradeoff, measure, trained_alike
from components.judges.judge import Judge
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.model.vision import VisionFeatures


@pytest.fixture(scope="module")
def pipeline() -> RealCustomPipeline:
    return RealCustomPipeline.from_config(load_config("tiny", ["sampling.steps=2", "sampling.guidance.steps=1"]))


def test_real_pictures_are_more_like_their_identity_than_another_ones() -> None:
    config = load_config("tiny")
    assert config.evaluation.encoders is not None
    drawn = cases(6, 3, config)
    likeness = SubjectSimilarity(Judge(config.evaluation.encoders, config.vision.view_size), drawn)
    own = likeness([case.real[2] for case in drawn])
    others = likeness([case.real[2] for case in [*drawn[1:], drawn[0]]])
    assert own.shape == (6,)
    assert own.mean() > others.mean() + 0.3


def test_a_global_projector_reads_no_local_views(pipeline: RealCustomPipeline) -> None:
    config = load_config("tiny", ["adapter.projector=global"])
    vision = pipeline.vision_encoder
    adapter = RealCustomAdapter.for_unet(pipeline.unet, vision.channels, config.adapter, vision.identity)
    deep, local = torch.rand(2, 16, vision.channels), torch.rand(2, 64, vision.channels)
    tokens = adapter(VisionFeatures(deep, local))
    assert torch.equal(tokens, adapter(VisionFeatures(deep, -local)))
    assert not torch.equal(tokens, adapter(VisionFeatures(-deep, local)))


def test_an_adapter_is_its_own_equal_and_the_pipeline_keeps_its_own(
    pipeline: RealCustomPipeline, tmp_path: Path
) -> None:
    config = load_config("tiny", ["sampling.steps=2", "sampling.guidance.steps=1"])
    assert config.evaluation.encoders is not None
    plain = RealCustomAdapter.for_unet(
        pipeline.unet, pipeline.vision_encoder.channels, config.adapter, pipeline.vision_encoder.identity
    )
    plain.save_pretrained(tmp_path / "untrained")
    before = pipeline.adapter.digest
    adapters = {"whole": str(config.model.adapter), "again": str(config.model.adapter), "none": f"{tmp_path}/untrained"}
    judge = Judge(config.evaluation.encoders, config.vision.view_size)
    points, shown = measure(pipeline, judge, config, trained_alike(pipeline.guidance, adapters), 3, 1)
    assert points[1].similarity_lost.value == points[1].control_lost.value == 0
    assert points[2].similarity_lost.value != 0
    assert pipeline.adapter.digest == before
    assert np.array_equal(*(np.asarray(shown[f"trained alike {name}"][0]) for name in ("whole", "again")))
    texts = [text.get_text() for text in draw_tradeoff(points).axes[0].texts]
    assert texts == ["whole", "again", "none"]
