"""Quantised U-Nets below a character's adapter, and what is said where they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from components.config import load_config
from components.errors import ConfigError
from components.model.base_model import load_base
from components.model.pipeline import RealCustomPipeline
from components.model.quantization import quantization_config
from components.model.subjects import Subject
from components.registry import version_config
from tests.fixtures.random_adapters import random_adapter_pipeline

COMMON: dict[str, Any] = {
    "num_inference_steps": 3,
    "guidance_scale": 3.5,
    "height": 64,
    "width": 64,
    "output_type": "latent",
}


def latents(pipeline: Any, *subjects: Subject) -> Tensor:
    seed = torch.Generator().manual_seed(2)
    made: Tensor = pipeline("a cat in the snow", *subjects, negative_prompt="at night", generator=seed, **COMMON).images
    return made


def cat(pipeline: RealCustomPipeline) -> Subject:
    return Subject(pipeline.encode_subject([Image.new("RGB", (128, 128), "red")]), "cat")


def linear_bytes(unet: UNet2DConditionModel) -> int:
    """Bytes of the linear layers' weights as they are stored."""
    total = 0
    for module in unet.modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight
            stored = [getattr(weight, name, None) for name in ("qdata", "scale")]
            total += sum(part.nbytes for part in stored if part is not None) or weight.nbytes
    return total


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def plain(miniature: Any) -> RealCustomPipeline:
    return random_adapter_pipeline(miniature)


@pytest.fixture(scope="module")
def quantized(miniature: Any) -> RealCustomPipeline:
    pytest.importorskip("torchao", reason="torchao is not installed: pip install --no-deps -c constraints.txt torchao")
    return random_adapter_pipeline(miniature, "model.quantization=int8_weight_only")


def test_without_a_subject_as_diffusers_with_the_same_quantised_unet(
    miniature: Any, plain: RealCustomPipeline, quantized: RealCustomPipeline
) -> None:
    config = load_config("tiny", ["model.quantization=int8_weight_only"]).model
    unet = UNet2DConditionModel.from_pretrained(
        str(miniature.base),
        subfolder="unet",
        quantization_config=quantization_config(config),
        torch_dtype=torch.float32,
    )
    stock = StableDiffusionXLPipeline.from_pretrained(str(miniature.base), unet=unet, dtype=torch.float32)
    stock.scheduler = quantized.scheduler
    assert far(latents(quantized), latents(stock)) < 0.01
    assert 0 < far(latents(quantized), latents(plain)) < 0.1


def test_a_subject_acts_through_quantised_layers(plain: RealCustomPipeline, quantized: RealCustomPipeline) -> None:
    assert linear_bytes(quantized.unet) < 0.35 * linear_bytes(plain.unet)
    with torch.inference_mode():  # as the engine
        with_subject = latents(quantized, cat(quantized))
    assert far(with_subject, latents(plain, cat(plain))) < 0.1
    assert far(with_subject, latents(quantized)) > 0.1, "the character changes the image"


def test_an_adapter_beside_it_shares_the_quantised_weights(quantized: RealCustomPipeline) -> None:
    other = quantized.with_adapter(quantized.adapter)
    assert all(a is b for a, b in zip(quantized.unet.parameters(), other.unet.parameters(), strict=True))
    assert torch.equal(latents(other, cat(other)), latents(quantized, cat(quantized)))


def test_a_single_file_is_not_quantised(tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").touch()
    chosen = load_config("tiny", ["model.quantization=int8_weight_only", f"model.base={tmp_path}/base.safetensors"])
    with pytest.raises(ConfigError, match="is a single file, which is not quantised; convert it to a directory"):
        load_base(StableDiffusionXLPipeline, chosen.model, torch.float32, quantize=True)


def test_what_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(value: str) -> Any:
        return load_config("tiny", [f"model.quantization={value}", "model.device=cpu"]).model

    with pytest.raises(ConfigError, match="bnb_nf4 needs a CUDA device; on a CPU take int8_weight_only"):
        quantization_config(chosen("bnb_nf4"))
    monkeypatch.setattr("components.model.quantization.find_spec", lambda package: None)
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ConfigError, match=r"model\.quantization: int8_weight_only needs the extra 'torchao'"):
        quantization_config(chosen("int8_weight_only"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    on_gpu = chosen("bnb_int8").model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match=r"bnb_int8 needs the extra 'bitsandbytes'"):
        quantization_config(on_gpu)
    with pytest.raises(ConfigError, match=r"model\.quantization"):
        chosen("int3")


def test_a_version_keeps_its_quantisation() -> None:
    config = load_config("tiny", ["model.quantization=int8_weight_only"])
    assert version_config.pack(config)["model"]["quantization"] == "int8_weight_only"
    assert "quantization" not in version_config.pack(load_config("tiny"))["model"]
