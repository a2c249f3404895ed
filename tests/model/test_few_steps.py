"""One to eight steps without guidance: subjects act from the first step on."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from components.model.miniature import MiniatureLayout
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from tests.fixtures.random_adapters import random_adapter_pipeline


@pytest.fixture(scope="module")
def pipeline(miniature: MiniatureLayout) -> RealCustomPipeline:
    """An adapter with random values, so that subjects make a difference."""
    return random_adapter_pipeline(miniature)


@pytest.mark.parametrize("sampler", ["lcm", "tcd", "euler_trailing", "euler_a_trailing"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_mask_is_found_before_the_first_step_and_in_each(
    pipeline: RealCustomPipeline, sampler: str, steps: int
) -> None:
    cat = Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "cat")
    batches: list[int] = []
    counted = pipeline.unet.register_forward_pre_hook(
        lambda _, args, kwargs: batches.append(len(args[0])), with_kwargs=True
    )
    asked = {"num_inference_steps": steps, "guidance_scale": 1.0, "height": 64, "width": 64, "output_type": "latent"}
    try:
        drawn = pipeline("a cat", cat, sampler=sampler, generator=torch.Generator().manual_seed(1), **asked)
    finally:
        counted.remove()
    assert batches == [1] * (steps + 1), "one row a step, after one text-only call"
    history = drawn.mask_history
    assert history is not None and len(history) == steps
    share = int(history[0].numel() * pipeline.guidance.scope)
    assert all(0 < int((mask > 0).sum()) <= share for mask in history)
    plain = pipeline("a cat", sampler=sampler, generator=torch.Generator().manual_seed(1), **asked)
    assert (drawn.images - plain.images).abs().max() > 1e-3, "the subject acts in the only step, too"
