"""The 128-pixel miniature of the SDXL family: untrained parts of the library's classes."""

from __future__ import annotations

from collections.abc import Iterable

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from components.model import miniature
from components.world.storybook.scenes import SIZE

#: Tokens of a prompt, start and end tokens included, as in SDXL.
MAX_TOKENS = 77
TEXT_WIDTH = 96
POOLED_WIDTH = 96
TIME_ID_WIDTH = 8
LATENT_SIZE = SIZE // 8


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A vocabulary in which every word of ``captions`` is one token."""
    tokenizer = miniature.build_tokenizer(captions)
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer


def build_vae() -> AutoencoderKL:
    """A factor-8 autoencoder: [b, 3, 128, 128] pictures to [b, 4, 16, 16] latents."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIZE,
        scaling_factor=1.0,
    )


def build_text_encoders(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two text towers of width `TEXT_WIDTH`; the second one also gives the pooled vector."""

    def config(activation: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=TEXT_WIDTH // 32,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=POOLED_WIDTH,
            hidden_act=activation,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    return CLIPTextModel(config("quick_gelu")), CLIPTextModelWithProjection(config("gelu"))


def build_unet(widths: tuple[int, int] = (128, 192), heads: tuple[int, int] = (4, 6)) -> UNet2DConditionModel:
    """A two-level SDXL U-Net with cross-attention in every down, mid and up block."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        transformer_layers_per_block=1,
        attention_head_dim=heads,  # diffusers keeps the name of its first release: these are numbers of heads
        cross_attention_dim=2 * TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=POOLED_WIDTH + 6 * TIME_ID_WIDTH,
        norm_num_groups=16,
        use_linear_projection=True,
    )
