"""Precision of the autoencoder, its own normalisation, tiles, slices and memory format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from components.config import load_config
from components.model.memory import unscaled_latents, upcast_autoencoder
from components.model.pipeline import RealCustomPipeline
from components.model.redraw import encode_latents

SHORT: dict[str, Any] = {"num_inference_steps": 2, "height": 64, "width": 64}


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def built(miniature: Any, *settings: str) -> RealCustomPipeline:
    parts = [f"model.{n}={getattr(miniature, n)}" for n in ("base", "siglip", "dinov2")]
    return RealCustomPipeline.from_config(load_config("tiny", [*parts, "model.adapter=null", *settings]))


@pytest.fixture(scope="module")
def plain(miniature: Any) -> RealCustomPipeline:
    return built(miniature)


def mapped_files() -> list[tuple[range, str]]:
    """The files that are mapped into this process's memory, by address."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, *_, name = line.split()
        if name.endswith(".safetensors"):
            first, last = (int(address, 16) for address in addresses.split("-"))
            found.append((range(first, last), name))
    return found


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists what is mapped")
def test_weights_of_the_same_precision_stay_in_their_files(miniature: Any) -> None:
    """Their memory is read from the file when it is needed; weights of another precision are a copy."""
    same, other = built(miniature), built(miniature, "model.dtype=float16")

    def in_files(pipeline: RealCustomPipeline) -> dict[str, float]:
        files, shares = mapped_files(), {}
        for name in ("unet", "text_encoder", "vision_encoder"):
            weights = list(getattr(pipeline, name).parameters())
            held = sum(w.nbytes for w in weights if any(w.data_ptr() in addresses for addresses, _ in files))
            shares[name] = held / sum(w.nbytes for w in weights)
        return shares

    assert all(share > 0.95 for share in in_files(same).values()), in_files(same)
    assert not any(in_files(other).values()), in_files(other)


def overflow_in_half(pipeline: Any) -> None:
    """Activations beyond float16's largest number inside of the decoder, as in SDXL's autoencoder."""
    with torch.no_grad():
        weight = pipeline.vae.decoder.conv_in.weight
        weight.div_(weight.abs().max()).mul_(3e4)  # one after the other: their quotient is beyond float16


def test_an_autoencoder_that_overflows_in_float16_is_computed_in_float32(miniature: Any) -> None:
    stock = StableDiffusionXLPipeline.from_pretrained(miniature.base, dtype=torch.float16)
    stock.vae.register_to_config(force_upcast=True)
    ours = built(miniature, "model.dtype=float16")
    assert ours.unet.dtype == torch.float16
    ours.vae = StableDiffusionXLPipeline.from_pretrained(miniature.base, dtype=torch.float16).vae
    ours.vae.register_to_config(force_upcast=True)
    for pipeline in (stock, ours):
        overflow_in_half(pipeline)
    latents = torch.randn(1, 4, 16, 16, generator=seed()).half()
    black = ours.vae.decode(latents / ours.vae.config.scaling_factor).sample
    assert not black.isfinite().all(), "it overflows"
    stock.upcast_vae()
    expected = stock.vae.decode(latents.float() / stock.vae.config.scaling_factor).sample
    decoded = ours.decode(latents, "pt")
    assert ours.vae.dtype == torch.float32 and decoded.isfinite().all()
    assert torch.equal(decoded, ours.image_processor.postprocess(expected, output_type="pt"))
    assert ours.unet.dtype == torch.float16


def test_other_autoencoders_keep_their_precision(plain: RealCustomPipeline) -> None:
    for dtype, upcast, expected in (
        (torch.bfloat16, True, torch.bfloat16),
        (torch.float16, False, torch.float16),
        (torch.float16, True, torch.float32),
    ):
        vae = type(plain.vae).from_config(plain.vae.config, force_upcast=upcast).to(dtype)
        upcast_autoencoder(vae)
        assert vae.dtype == expected


def test_an_autoencoder_with_mean_and_deviation_gets_its_own_latents(plain: RealCustomPipeline) -> None:
    mean, std = [0.5, -1.0, 0.0, 2.0], [2.0, 1.0, 0.5, 3.0]
    vae = type(plain.vae).from_config(plain.vae.config, latents_mean=mean, latents_std=std).eval()
    pixels = torch.rand(1, 3, 64, 64, generator=seed()) * 2 - 1
    with torch.no_grad():
        scaled = encode_latents(vae, pixels, seed())
        own = vae.encode(pixels).latent_dist.sample(seed())
    torch.testing.assert_close(unscaled_latents(vae, scaled), own)
    expected = scaled * torch.tensor(std).view(1, 4, 1, 1) / vae.config.scaling_factor
    assert torch.equal(unscaled_latents(vae, scaled), expected + torch.tensor(mean).view(1, 4, 1, 1))


def test_slices_tiles_and_channels_last_give_the_same_image(miniature: Any, plain: RealCustomPipeline) -> None:
    usual: Tensor = plain(["a cat", "a robot"], generator=seed(), output_type="pt", **SHORT).images
    careful = built(miniature, "model.vae_tiling=true", "model.vae_slicing=true", "model.channels_last=true")
    assert careful.vae.use_tiling and careful.vae.use_slicing
    assert careful.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    image = careful(["a cat", "a robot"], generator=seed(), output_type="pt", **SHORT).images
    assert (image - usual).abs().max() < 1e-3, "an image of the model's own size is one tile"
    calls: list[Any] = []
    careful.vae.tiled_decode = lambda z, **_: calls.append(z.shape)  # type: ignore[method-assign]
    large = 2 * careful.vae.tile_latent_min_size
    with pytest.raises(AttributeError, match="sample"):  # of the None that the recorder returns
        careful.decode(torch.zeros(1, 4, large, large))
    assert calls == [(1, 4, large, large)], "a larger one is tiled"


def test_tf32_is_a_setting(miniature: Any) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        built(miniature)
        assert not torch.backends.cuda.matmul.allow_tf32
        built(miniature, "model.tf32=true")
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
