"""IP-Adapters: as diffusers' pipeline without a subject, and beside subjects and other requests in one U-Net call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from components.model.generation_request import GenerationRequest
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.random_ip_adapter import random_ip_adapter

PROMPT = "a red cat on the beach"
COMMON: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.5, "height": 64, "width": 96}


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8))


def cat(pipeline: RealCustomPipeline, strength: float = 1.0) -> Subject:
    return Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "cat", strength=strength)


def latents(pipeline: Any, *subjects: Subject, **more: Any) -> Tensor:
    seed = torch.Generator().manual_seed(3)
    made: Tensor = pipeline(
        PROMPT, *subjects, negative_prompt="at night", generator=seed, output_type="latent", **COMMON, **more
    ).images
    return made


@pytest.fixture(scope="module")
def arguments(miniature: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return random_ip_adapter(miniature, tmp_path_factory.mktemp("style"))


@pytest.fixture(scope="module")
def plain(miniature: Any) -> RealCustomPipeline:
    return random_adapter_pipeline(miniature)


@pytest.fixture(scope="module")
def loaded(miniature: Any, arguments: dict[str, str]) -> RealCustomPipeline:
    made = random_adapter_pipeline(miniature)
    made.load_ip_adapter(**arguments)
    return made


@pytest.fixture
def styled(loaded: RealCustomPipeline) -> Iterator[RealCustomPipeline]:
    yield loaded
    loaded.set_ip_adapter_scale(1.0)


@pytest.fixture(scope="module")
def stock(miniature: Any, arguments: dict[str, str]) -> Any:
    made = StableDiffusionXLPipeline.from_pretrained(str(miniature.base), dtype=torch.float32, add_watermarker=False)
    made.load_ip_adapter(**arguments)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("scale", [1.0, 0.5, {"up": {"block_0": [1.0, 0.0]}}])
def test_a_style_as_diffusers_without_a_subject_and_with_one_of_strength_0(
    styled: RealCustomPipeline, stock: Any, scale: Any
) -> None:
    for pipeline in (styled, stock):
        pipeline.set_ip_adapter_scale(scale)
    expected = latents(stock, ip_adapter_image=picture())
    assert torch.equal(latents(styled, ip_adapter_image=picture()), expected)
    torch.testing.assert_close(
        latents(styled, cat(styled, 0.0), ip_adapter_image=picture()), expected, atol=2e-4, rtol=1e-3
    )


def test_without_a_style_as_without_an_ip_adapter(styled: RealCustomPipeline, plain: RealCustomPipeline) -> None:
    expected, text = latents(plain, cat(plain)), latents(plain)
    torch.testing.assert_close(latents(styled, cat(styled)), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(latents(styled), text, atol=1e-5, rtol=1e-5)
    styled.set_ip_adapter_scale(0.0)
    torch.testing.assert_close(latents(styled, cat(styled), ip_adapter_image=picture()), expected, atol=1e-5, rtol=1e-5)


def test_both_act_at_once(styled: RealCustomPipeline) -> None:
    both = latents(styled, cat(styled), ip_adapter_image=picture())
    style, subject = latents(styled, ip_adapter_image=picture()), latents(styled, cat(styled))
    other = latents(styled, cat(styled), ip_adapter_image=picture(1))
    for one in (style, subject, other):
        assert float((both - one).norm() / one.norm()) > 0.02


def test_requests_with_and_without_a_style_share_calls(styled: RealCustomPipeline) -> None:
    """Rows without a picture are as alone."""
    fields: list[dict[str, Any]] = [
        {"ip_adapter_image": picture()},
        {},
        {"ip_adapter_image": picture(1), "subjects": cat(styled)},
        {"subjects": cat(styled)},
    ]

    def states() -> list[Any]:
        requests = [
            GenerationRequest(PROMPT, generator=torch.Generator().manual_seed(i), **COMMON, **more)
            for i, more in enumerate(fields)
        ]
        return [styled.begin(request) for request in requests]

    def run(group: list[Any]) -> list[Tensor]:
        denoiser = styled.denoiser()
        with torch.no_grad():
            while not group[0].done:
                predicted = denoiser([state.step_input() for state in group])
                for state, each in zip(group, predicted, strict=True):
                    state.advance(each)
        return [state.latents for state in group]

    together, alone = run(states()), [run([state])[0] for state in states()]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_another_adapter_and_unloading_keep_both_branches(
    miniature: Any, arguments: dict[str, str], plain: RealCustomPipeline, loaded: RealCustomPipeline
) -> None:
    first = random_adapter_pipeline(miniature)
    first.load_ip_adapter(**arguments)
    other = first.with_adapter(first.adapter)
    expected = latents(loaded, cat(loaded), ip_adapter_image=picture())
    assert torch.equal(latents(other, cat(other), ip_adapter_image=picture()), expected)
    first.unload_ip_adapter()
    assert torch.equal(latents(first, cat(first)), latents(plain, cat(plain)))
    with pytest.raises(ValueError, match="no IP-Adapter is loaded"):
        latents(first, ip_adapter_image=picture())
    assert torch.equal(latents(other, cat(other), ip_adapter_image=picture()), expected)
