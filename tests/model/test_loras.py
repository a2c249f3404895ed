"""LoRAs by request: as diffusers' `set_adapters` without a subject, and each request with its own in one engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from torch import Tensor, nn

from components.config import load_config
from components.engine.engine import Engine
from components.engine.request import Request
from components.engine.step import begin
from components.errors import ArtifactError
from components.model.loras import lora_set
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from tests.fixtures.random_adapters import random_adapter_pipeline
from tests.fixtures.tolerances import LEVEL

PROMPT = "a red cat on the beach"


def write_lora(base: str, directory: Path, seed: int) -> Path:
    """A random LoRA of U-Net and text encoder, large enough to be seen."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(base)
    parts = {
        "unet": (pipeline.unet, ["to_q", "to_k", "to_v", "to_out.0"]),
        "text_encoder": (pipeline.text_encoder, ["q_proj", "v_proj"]),
    }
    torch.manual_seed(seed)
    layers = {}
    for name, (module, targets) in parts.items():
        module.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets))
        for parameter, value in module.named_parameters():
            if "lora_" in parameter:
                nn.init.normal_(value, std=0.3)
        layers[f"{name}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
    pipeline.save_lora_weights(directory, **layers)
    return directory


@pytest.fixture(scope="module")
def paths(miniature, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("loras")
    written = {name: write_lora(str(miniature.base), folder / name, i) for i, name in enumerate(("flat", "ink"))}
    return {"flat": str(written["flat"]), "ink": str(next(written["ink"].glob("*.safetensors")))}


@pytest.fixture(scope="module")
def pipeline(miniature, paths: Mapping[str, str]) -> RealCustomPipeline:  # type: ignore[no-untyped-def]
    return random_adapter_pipeline(miniature, *(f"model.loras.{name}={path}" for name, path in paths.items()))


@pytest.fixture(scope="module")
def cat(pipeline: RealCustomPipeline) -> Subject:
    return Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "cat")


def latents(pipeline: Any, **more: Any) -> Tensor:
    common: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.5, "height": 64, "width": 64}
    generator = torch.Generator().manual_seed(1)
    images: Tensor = pipeline(
        PROMPT, negative_prompt="at night", generator=generator, output_type="latent", **common, **more
    ).images
    return images


@pytest.mark.parametrize("loras", [{}, {"flat": 1.0}, {"ink": 0.5}, {"ink": 0.7, "flat": -0.4}])
def test_without_a_subject_as_diffusers(
    pipeline: RealCustomPipeline,
    miniature,  # type: ignore[no-untyped-def]
    paths: Mapping[str, str],
    loras: dict[str, float],
) -> None:
    stock = StableDiffusionXLPipeline.from_pretrained(str(miniature.base), add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    for name in loras:
        path = Path(paths[name])
        folder, file = (path.parent, path.name) if path.is_file() else (path, None)
        stock.load_lora_weights(str(folder), weight_name=file, adapter_name=name)
    if loras:
        ordered = sorted(loras)
        stock.set_adapters(ordered, [loras[name] for name in ordered])
    expected = latents(stock)
    assert torch.equal(latents(pipeline, loras=loras), expected)
    if loras:
        assert (latents(pipeline) - expected).abs().max() > 0.01, "they act, and no longer without them"


def test_requests_with_other_loras_go_in_calls_of_their_own(pipeline: RealCustomPipeline, cat: Subject) -> None:
    sets = [(), (("flat", 1.0),), (("flat", 1.0),), (("flat", 0.5), ("ink", 1.0))]
    requests = [Request(PROMPT, 1, 64, 64, 3, 3.5, subjects=(cat,), loras=each) for each in sets]
    engine = Engine(pipeline, pixel_budget=8 * 64 * 64)
    futures = engine.submit_all(requests)
    assert engine.close(120)
    assert engine.stats().steps == 9, "three lanes, one of two requests"
    for request, future in zip(requests, futures, strict=True):
        alone = pipeline(
            PROMPT,
            cat,
            num_inference_steps=3,
            height=64,
            width=64,
            generator=torch.Generator().manual_seed(1),
            loras=request.loras,
        ).images[0]
        differences = [abs(a - b) for a, b in zip(future.result().image.tobytes(), alone.tobytes(), strict=True)]
        assert max(differences) <= LEVEL
    assert len({future.result().image.tobytes() for future in futures}) == 3


def test_one_call_has_one_set(pipeline: RealCustomPipeline) -> None:
    requests = [Request(PROMPT, 1, 64, 64, 3, 3.5, loras=each) for each in ((), (("ink", 1.0),))]
    with torch.no_grad():
        inputs = [begin(pipeline, request).step_input() for request in requests]
        with pytest.raises(ValueError, match="same LoRAs"):
            pipeline.denoiser()(inputs)


def test_a_version_beside_switches_its_own(pipeline: RealCustomPipeline) -> None:
    beside = pipeline.with_adapter(pipeline.adapter)
    expected = latents(pipeline, loras={"ink": 1.0})
    other = latents(beside)
    assert torch.equal(latents(beside, loras={"ink": 1.0}), expected)
    assert torch.equal(latents(pipeline, loras={"ink": 1.0}), expected) and not torch.equal(other, expected)


def test_unknown_and_damaged_loras_are_told(pipeline: RealCustomPipeline, miniature, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="'oil' is not loaded; choose from: flat, ink"):
        pipeline(PROMPT, loras={"oil": 1.0})
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    parts = [f"model.{n}={getattr(miniature, n)}" for n in ("base", "siglip", "dinov2")]
    broken = load_config("tiny", [*parts, "model.adapter=null", f"model.loras.broken={tmp_path}/broken.safetensors"])
    with pytest.raises(ArtifactError, match=r"model\.loras\.broken"):
        RealCustomPipeline.from_config(broken)
    assert lora_set({"b": 1, "a": 0.5, "c": 0}) == (("a", 0.5), ("b", 1.0))
