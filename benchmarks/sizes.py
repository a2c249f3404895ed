"""Sizes of the models with random weights, for benchmarks of time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from components.config import AdapterConfig
from components.model.official import SDXL_UNET


@dataclass(frozen=True)
class Size:
    """An SDXL-shaped U-Net with its adapter, and the lengths of its inputs.

    Args:
        channels: of the U-Net's three levels; heads are 64 wide, as in SDXL.
        transformer_layers: of each level; the first level has no attention, as in SDXL.
        context_width: of text and vision tokens.
        pooled_width, time_id_width: of the text-time conditioning.
        latent: height and width of the latents.
        text_tokens, vision_tokens: lengths.
        vision_channels: of the features that the projector reads.
        clip_width: of the features that IP-Adapter's projection reads.
        vae_channels: of the autoencoder's four levels.
        adapter: the projector's sizes.
        dtype: of all weights and inputs.
    """

    channels: tuple[int, int, int]
    transformer_layers: tuple[int, int, int]
    context_width: int
    pooled_width: int
    time_id_width: int
    latent: int
    text_tokens: int
    vision_tokens: int
    vision_channels: int
    clip_width: int
    vae_channels: tuple[int, ...]
    adapter: AdapterConfig
    dtype: torch.dtype

    def unet(self) -> dict[str, Any]:
        """Arguments of `UNet2DConditionModel`."""
        return SDXL_UNET | {
            "sample_size": self.latent,
            "block_out_channels": self.channels,
            "transformer_layers_per_block": self.transformer_layers,
            # a misnomer in diffusers: these are numbers of heads
            "attention_head_dim": tuple(width // 64 for width in self.channels),
            "cross_attention_dim": self.context_width,
            "addition_time_embed_dim": self.time_id_width,
            "projection_class_embeddings_input_dim": self.pooled_width + 6 * self.time_id_width,
        }


#: A fifth of SDXL's width, half its image side and 34 of its 70 cross-attention layers, for a CPU.
MEDIUM = Size(
    channels=(64, 128, 256),
    transformer_layers=(1, 2, 4),
    context_width=384,
    pooled_width=256,
    time_id_width=64,
    latent=64,
    text_tokens=77,
    vision_tokens=729,
    vision_channels=448,
    clip_width=256,
    vae_channels=(32, 64, 96, 96),
    adapter=AdapterConfig(head_dim=64, hidden_dim=1792),
    dtype=torch.float32,
)

#: SDXL itself, for a GPU.
SDXL = Size(
    channels=(320, 640, 1280),
    transformer_layers=(1, 2, 10),
    context_width=2048,
    pooled_width=1280,
    time_id_width=256,
    latent=128,
    text_tokens=77,
    vision_tokens=729,
    vision_channels=2176,
    clip_width=1280,
    vae_channels=(128, 256, 512, 512),
    adapter=AdapterConfig(head_dim=64, hidden_dim=8704),
    dtype=torch.bfloat16,
)
