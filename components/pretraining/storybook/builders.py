"""Builders of the untrained 128-pixel miniature: those of `components.model.miniature` with other sizes."""

from __future__ import annotations

from collections.abc import Iterable

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from components.model import miniature
from components.world.storybook.scenes import SIZE

#: Tokens of a prompt, start and end tokens included, as in SDXL.
MAX_TOKENS = 77
TEXT_WIDTH = 96
POOLED_WIDTH = 96


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A vocabulary in which every word of ``captions`` is one token."""
    return miniature.build_tokenizer(captions, MAX_TOKENS)


def build_vae() -> AutoencoderKL:
    """A factor-8 autoencoder: [b, 3, 128, 128] pictures to [b, 4, 16, 16] latents."""
    return miniature.build_vae(SIZE, (16, 32, 64, 128))


def build_text_encoders(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two text towers of width `TEXT_WIDTH`; the second one also gives the pooled vector."""
    return miniature.build_text_encoders(tokenizer, TEXT_WIDTH, POOLED_WIDTH)


def build_unet() -> UNet2DConditionModel:
    """A two-level SDXL U-Net with cross-attention in every down, mid and up block."""
    return miniature.build_unet(SIZE // 8, (128, 192), (4, 6), TEXT_WIDTH, POOLED_WIDTH)
