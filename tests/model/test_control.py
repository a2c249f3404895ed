"""ControlNets and T2I-Adapters: as diffusers' pipelines without a subject, and beside others in one U-Net call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLAdapterPipeline, StableDiffusionXLControlNetPipeline, T2IAdapter
from PIL import Image
from torch import Tensor

from components.engine.engine import Engine
from components.engine.request import Request
from components.errors import ArtifactError, ConfigError
from components.model.control import Control
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.random_controls import random_controls
from tests.fixtures.tolerances import LEVEL, drawing_error

PROMPT = "a red cat on the beach"


@pytest.fixture(scope="module")
def paths(miniature, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return random_controls(miniature, tmp_path_factory.mktemp("controls"))


@pytest.fixture(scope="module")
def pipeline(miniature, paths: dict[str, str]) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    return random_adapter_pipeline(miniature, *(f"model.controls.{name}={path}" for name, path in paths.items()))


@pytest.fixture(scope="module")
def cat(pipeline: RealCustomPipeline) -> Subject:
    return Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "cat")


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8))


def stock(kind: type[Any], pipeline: RealCustomPipeline, **more: Any) -> Any:
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet")
    made = kind(
        **{name: getattr(pipeline, name) for name in names},
        scheduler=pipeline.scheduler,
        **more,
    )
    made.set_progress_bar_config(disable=True)
    return made


COMMON: dict[str, Any] = {
    "num_inference_steps": 4,
    "guidance_scale": 3.5,
    "height": 64,
    "width": 96,
    "output_type": "latent",
}


def latents(pipeline: Any, *subjects: Subject, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    images: Tensor = pipeline(
        PROMPT, *subjects, negative_prompt="at night", generator=generator, **COMMON, **more
    ).images
    return images


@pytest.mark.parametrize(("scale", "start", "end"), [(1.0, 0.0, 1.0), (0.6, 0.25, 0.75)])
def test_a_controlnet_without_a_subject_as_diffusers(
    pipeline: RealCustomPipeline, scale: float, start: float, end: float
) -> None:
    made = stock(
        StableDiffusionXLControlNetPipeline, pipeline, controlnet=pipeline._controls["pose"], add_watermarker=False
    )
    expected = latents(
        made,
        image=picture(),
        controlnet_conditioning_scale=scale,
        control_guidance_start=start,
        control_guidance_end=end,
    )
    found = latents(pipeline, control=Control("pose", picture(), scale, start, end))
    assert (found - expected).abs().max() < drawing_error(pipeline.unet, expected, 4, 3.5)
    assert (found - latents(pipeline)).abs().max() > 0.01, "it acts"


@pytest.mark.parametrize(("scale", "end"), [(1.0, 1.0), (0.7, 0.5)])
def test_a_t2i_adapter_without_a_subject_as_diffusers(pipeline: RealCustomPipeline, scale: float, end: float) -> None:
    made = stock(StableDiffusionXLAdapterPipeline, pipeline, adapter=pipeline._controls["sketch"])
    expected = latents(made, image=picture(), adapter_conditioning_scale=scale, adapter_conditioning_factor=end)
    found = latents(pipeline, control=Control("sketch", picture(), scale, 0.0, end))
    assert (found - expected).abs().max() < drawing_error(pipeline.unet, expected, 4, 3.5)
    assert (found - latents(pipeline)).abs().max() > 0.01, "it acts"


def test_any_control_and_none_share_a_call(pipeline: RealCustomPipeline, cat: Subject) -> None:
    controls = [
        None,
        Control("pose", picture()),
        Control("pose", picture(1), 0.5, 0.0, 0.5),
        Control("sketch", picture()),
    ]
    requests = [Request(PROMPT, 1, 96, 64, 4, 3.5, subjects=(cat,), control=each) for each in controls]
    engine = Engine(pipeline, pixel_budget=8 * 64 * 96)
    futures = engine.submit_all(requests)
    assert engine.close(120)
    assert engine.stats().steps == 4, "one lane"
    for control, future in zip(controls, futures, strict=True):
        alone = pipeline(
            PROMPT,
            cat,
            num_inference_steps=4,
            height=64,
            width=96,
            generator=torch.Generator().manual_seed(1),
            control=control,
        ).images[0]
        differences = [abs(a - b) for a, b in zip(future.result().image.tobytes(), alone.tobytes(), strict=True)]
        assert max(differences) <= LEVEL
    assert len({future.result().image.tobytes() for future in futures}) == 4


def test_what_cannot_control_is_told(pipeline: RealCustomPipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'depth' is not loaded; choose from: pose, sketch"):
        latents(pipeline, control=Control("depth", picture()))
    with pytest.raises(ValueError, match="not in order"):
        Control("pose", picture(), 1.0, 0.5, 0.5)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ArtifactError, match=r"model\.controls\.odd: .* is no ControlNetModel"):
        pipeline.load_controls({"odd": str(tmp_path)})
    with pytest.raises(ArtifactError, match=r"model\.controls\.absent cannot be loaded"):
        pipeline.load_controls({"absent": str(tmp_path / "absent")})


def test_a_size_that_an_adapter_does_not_take_is_told(pipeline: RealCustomPipeline, tmp_path: Path) -> None:
    widths = list(pipeline.unet.config.block_out_channels)
    T2IAdapter(channels=widths, num_res_blocks=1, downscale_factor=16).save_pretrained(tmp_path)
    pipeline.load_controls({"coarse": str(tmp_path)})
    assert pipeline.control_names == ("pose", "sketch", "coarse")
    shares = pipeline.control_shares
    assert 0.1 < shares["pose"] < 1 and shares["sketch"] == shares["coarse"] == 0, "a T2I-Adapter is called once"
    with pytest.raises(ConfigError, match="size: the control 'coarse' takes sides that are multiples of 16"):
        pipeline(PROMPT, height=72, width=64, num_inference_steps=1, control=Control("coarse", picture()))
