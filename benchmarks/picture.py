"""Peak memory of generating an image, from prompt to pixels, text encoders and autoencoder included.

The encoders of references are neither held nor counted: a character's tokens are computed once and stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from benchmarks.peers.inputs import DenoisingInputs, Implementation, share_weights
from benchmarks.sizes import Size
from components.config import Config, VisionConfig
from components.model.miniature import build_tokenizer
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.model.vision import VisionEncoder

PROMPT, WORD = "a cat on the beach", "cat"


def picture_implementations(inputs: DenoisingInputs, size: Size) -> list[Implementation]:
    """diffusers' pipeline, and this project's with a subject, with the U-Net and adapter of ``inputs``."""
    device = inputs.noise.device
    rest = {"scheduler": type(inputs.scheduler).from_config(inputs.scheduler.config), "add_watermarker": False}
    parts = _parts(size, device) | rest
    stock = StableDiffusionXLPipeline(unet=share_weights(inputs.unet), **parts)
    ours = RealCustomPipeline(unet=share_weights(inputs.unet), **parts)
    ours.set_adapter(inputs.adapter, _vision(size).to(device, size.dtype), inputs.guidance)
    return _implementations(stock, ours, Subject(inputs.adapter(inputs.reference)[0], WORD), inputs)


def toy_picture_implementations(config: Config, inputs: DenoisingInputs) -> list[Implementation]:
    """The same with the miniature of ``config``."""
    stock = StableDiffusionXLPipeline.from_pretrained(config.model.base)
    ours = RealCustomPipeline.from_config(config)
    return _implementations(
        stock, ours, Subject(ours.encode_subject([Image.new("RGB", (64, 64), "red")]), WORD), inputs
    )


def _implementations(
    stock: StableDiffusionXLPipeline, ours: RealCustomPipeline, cat: Subject, inputs: DenoisingInputs
) -> list[Implementation]:
    def implementation(
        name: str, pipeline: StableDiffusionXLPipeline, more: Sequence[nn.Module], **subjects: Subject
    ) -> Implementation:
        pipeline.set_progress_bar_config(disable=True)
        parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]

        def run(steps: int) -> Tensor:
            images: Tensor = pipeline(
                PROMPT,
                height=inputs.pixels[0],
                width=inputs.pixels[1],
                num_inference_steps=steps,
                guidance_scale=inputs.guidance_scale,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
                **subjects,
            ).images
            return images

        return Implementation(name, run, [*parts, *more])

    return [implementation("stock", stock, ()), implementation("default", ours, [ours.adapter], subjects=cat)]


def _parts(size: Size, device: torch.device) -> dict[str, Any]:
    """Text encoders, tokenizers and autoencoder with SDXL's numbers of layers, at ``size``'s width."""
    tokenizer = build_tokenizer([PROMPT])
    tokenizer.model_max_length = size.text_tokens
    narrow, wide = size.context_width - size.pooled_width, size.pooled_width

    def config(width: int, layers: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            max_position_embeddings=size.text_tokens,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )

    levels = len(size.vae_channels)
    with torch.device(device):
        models = {
            "text_encoder": CLIPTextModel(config(narrow, 12)),
            "text_encoder_2": CLIPTextModelWithProjection(config(wide, 32)),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=size.vae_channels,
                layers_per_block=2,
                latent_channels=4,
                scaling_factor=0.13025,
            ),
        }
    for model in models.values():
        model.to(size.dtype).requires_grad_(False).eval()
    return models | {"tokenizer": tokenizer, "tokenizer_2": tokenizer}


def _vision(size: Size) -> VisionEncoder:
    """One-layer encoders of the right widths and numbers of patches, to encode the "no subject" image."""
    patch = 14
    side = round(size.vision_tokens**0.5) * patch
    widths: Sequence[int] = (size.vision_channels - size.clip_width // 2, size.clip_width // 2)
    common = {"image_size": side, "patch_size": patch, "num_hidden_layers": 1}
    siglip = SiglipVisionModel(
        SiglipVisionConfig(hidden_size=widths[0], intermediate_size=64, num_attention_heads=widths[0] // 64, **common)
    )
    dinov2 = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(hidden_size=widths[1], mlp_ratio=1, num_attention_heads=widths[1] // 64, **common)
    )
    return VisionEncoder.from_models(
        siglip, dinov2, VisionConfig(view_size=side, siglip_block=0, dinov2_block=0), "random"
    )
