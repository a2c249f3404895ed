"""Redrawing a picture or a part of it: as diffusers' pipelines without a subject, and nothing outside the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image, ImageDraw
from torch import Tensor, nn

from components.engine.engine import Engine
from components.engine.request import Request
from components.model.influence_mask import confine
from components.model.pipeline import RealCustomPipeline
from components.model.redraw import first_step
from components.model.subjects import Subject
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.tolerances import LEVEL, drawing_error

SCHEDULERS = [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler]
PROMPT, NEGATIVE = "a red cat on the beach", "at night"


@pytest.fixture(scope="module")
def pipeline(miniature) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    """An adapter with random values, so that subjects make a difference."""
    return random_adapter_pipeline(miniature)


@pytest.fixture(scope="module")
def cat(pipeline: RealCustomPipeline) -> Subject:
    return Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "cat")


def picture(width: int = 64, height: int = 64) -> Image.Image:
    """Every pixel differs from its neighbours."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def mask(width: int = 64, height: int = 64) -> Image.Image:
    """White where the picture is redrawn: an odd shape, off the latents' grid."""
    drawn = Image.new("L", (width, height))
    ImageDraw.Draw(drawn).ellipse((17, 9, 49, 45), fill=255)
    return drawn


def stock(kind: type[Any], pipeline: RealCustomPipeline) -> Any:
    """diffusers' pipeline of the same parts, without the refiner's aesthetic scores."""
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet")
    parts = {name: getattr(pipeline, name) for name in names}
    made = kind(**parts, scheduler=pipeline.scheduler, add_watermarker=False, requires_aesthetics_score=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("part", [False, True])
def test_without_a_subject_as_diffusers(
    pipeline: RealCustomPipeline, monkeypatch: pytest.MonkeyPatch, kind: type[Any], strength: float, part: bool
) -> None:
    monkeypatch.setattr(pipeline, "scheduler", kind.from_config(pipeline.scheduler.config))
    made = stock(StableDiffusionXLInpaintPipeline if part else StableDiffusionXLImg2ImgPipeline, pipeline)
    masked = {"mask_image": mask(96), "height": 64, "width": 96} if part else {}
    common: dict[str, Any] = {"num_inference_steps": 6, "guidance_scale": 3.5, "output_type": "latent"}
    shown = picture(96)
    expected = made(
        PROMPT,
        negative_prompt=NEGATIVE,
        image=shown,
        strength=strength,
        generator=torch.Generator().manual_seed(3),
        **masked,
        **common,
    ).images
    given = {"mask_image": mask(96)} if part else {}
    found = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        image=shown,
        strength=strength,
        generator=torch.Generator().manual_seed(3),
        **given,
        **common,
    ).images
    factor = pipeline.vae_scale_factor
    assert isinstance(found, Tensor) and found.shape == (1, 4, 64 // factor, 96 // factor)
    assert torch.equal(found, expected), (found - expected).abs().max()


def redrawn(pipeline: RealCustomPipeline, cat: Subject | None, **more: Any) -> Image.Image:
    arguments: dict[str, Any] = {"num_inference_steps": 4, "image": picture(), "mask_image": mask()} | more
    images = pipeline(PROMPT, cat, generator=torch.Generator().manual_seed(1), **arguments).images
    assert isinstance(images[0], Image.Image)
    return images[0]


@pytest.mark.parametrize("with_subject", [False, True])
@pytest.mark.parametrize("kind", [*SCHEDULERS, EulerAncestralDiscreteScheduler])
def test_outside_the_mask_not_a_pixel_changes(
    pipeline: RealCustomPipeline,
    cat: Subject,
    monkeypatch: pytest.MonkeyPatch,
    with_subject: bool,
    kind: type[Any],
) -> None:
    monkeypatch.setattr(pipeline, "scheduler", kind.from_config(pipeline.scheduler.config))
    before, after = np.array(picture()), np.array(redrawn(pipeline, cat if with_subject else None))
    inside = np.array(mask()) > 127
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any(1).mean() > 0.9


def test_outside_the_mask_no_latent_changes(pipeline: RealCustomPipeline, cat: Subject) -> None:
    whole = pipeline(
        PROMPT,
        cat,
        image=picture(),
        mask_image=mask(),
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
    ).images
    generator = torch.Generator().manual_seed(1)
    pixels = pipeline.image_processor.preprocess(picture())
    with torch.no_grad():
        own = pipeline.vae.encode(pixels).latent_dist.sample(generator) * pipeline.vae.config.scaling_factor
    factor = pipeline.vae_scale_factor
    inside = torch.from_numpy(np.array(mask())[::factor, ::factor] > 127)
    assert torch.equal(whole[..., ~inside], own[..., ~inside])
    assert (whole[..., inside] != own[..., inside]).all()


def test_a_subject_acts_inside_the_mask_alone(pipeline: RealCustomPipeline, cat: Subject) -> None:
    output = pipeline(
        PROMPT,
        cat,
        image=picture(),
        mask_image=mask(),
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(1),
    )
    with_subject, without = np.array(output.images[0]), np.array(redrawn(pipeline, None))
    assert (with_subject != without).any()
    assert output.mask_history is not None
    height, width = output.mask_history.shape[-2:]
    region = nn.functional.adaptive_max_pool2d(torch.from_numpy(np.array(mask()) / 255.0)[None], (height, width))[0] > 0
    acting = output.mask_history[:, 0, 0] > 0
    assert acting.any((1, 2)).all() and not acting[:, ~region].any()


def test_confined_maps_keep_their_shape_inside() -> None:
    average = torch.tensor([[9.0, 1.0], [2.0, 5.0]])[None, None]
    region = torch.tensor([[False, True], [True, True]])[None, None]
    assert confine(average, region).tolist() == [[[[1.0, 1.0], [2.0, 5.0]]]]


def test_the_engine_redraws_beside_other_requests(pipeline: RealCustomPipeline, cat: Subject) -> None:
    plain = Request("a robot", 4, 64, 64, 5, 3.5)
    mended = Request(PROMPT, 1, 64, 64, 4, 3.5, subjects=(cat,), image=picture(), mask_image=mask(), strength=0.8)
    whole = Request(PROMPT, 1, 64, 64, 4, 3.5, image=picture(), strength=0.5)
    engine = Engine(pipeline, pixel_budget=3 * 64 * 64)
    futures = engine.submit_all([plain, mended, whole])
    assert engine.close(120)
    assert engine.stats().steps == 5, "one U-Net call a step for all of them"
    assert (mended.made_steps, mended.cost, whole.cost) == (3, 3 * 64 * 64, 2 * 64 * 64)
    found = np.array(futures[1].result().image).astype(int)
    expected = np.array(redrawn(pipeline, cat)).astype(int)
    assert abs(found - expected).max() <= LEVEL
    outside = np.array(mask()) <= 127
    assert (found[outside] == np.array(picture())[outside]).all()


def test_a_batch_redraws_each_picture_as_alone(pipeline: RealCustomPipeline) -> None:
    pictures = [picture(), Image.new("RGB", (64, 64), "navy")]
    together = pipeline(
        [PROMPT, "a robot"],
        image=pictures,
        mask_image=mask(),
        num_inference_steps=4,
        generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)],
        output_type="latent",
    ).images
    for index, prompt in enumerate([PROMPT, "a robot"]):
        alone = pipeline(
            prompt,
            image=pictures[index],
            mask_image=mask(),
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(index + 1),
            output_type="latent",
        ).images
        assert (together[index] - alone[0]).abs().max() < drawing_error(pipeline.unet, alone, 4, 3.5)


def test_what_cannot_be_redrawn_is_refused(pipeline: RealCustomPipeline) -> None:
    dot = Image.new("L", (64, 64))
    dot.putpixel((1, 1), 255)
    with pytest.raises(ValueError, match="covers no latent"):
        pipeline(PROMPT, image=picture(), mask_image=dot)
    with pytest.raises(ValueError, match="give the image"):
        pipeline(PROMPT, mask_image=mask())
    with pytest.raises(ValueError, match="strength: 0 "):
        pipeline(PROMPT, image=picture(), strength=0)
    with pytest.raises(ValueError, match=r"strength: 0\.1 of 5 steps is no step"):
        first_step(5, 0.1)
    with pytest.raises(ValueError, match="image: 2 for 3 prompts"):
        pipeline([PROMPT] * 3, image=[picture()] * 2)
