"""The miniature of the SDXL family: the same diffusers and transformers classes, at toy size.

Everything here returns untrained parts; `components.pretraining` trains them and `MiniatureLayout` says where each
part lies in the directory they are saved to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
)

#: Tokens of a prompt, start and end tokens included (77 in SDXL).
MAX_TOKENS = 32
TEXT_WIDTH = 64
POOLED_WIDTH = 64
TIME_ID_WIDTH = 8
#: Pixels of the images, and of each view a vision encoder sees (1024 and 384 in the full system).
IMAGE_SIZE = 64
VIEW_SIZE = 64
#: Channels of each vision encoder of the model, and of those used in evaluation.
VISION_WIDTH = 96
EVALUATION_WIDTH = 128


@dataclass(frozen=True)
class MiniatureLayout:
    """Where the parts of a miniature lie below its root directory."""

    root: Path

    @property
    def base(self) -> Path:
        """A `StableDiffusionXLPipeline` directory."""
        return self.root / "base"

    @property
    def siglip(self) -> Path:
        return self.root / "siglip"

    @property
    def dinov2(self) -> Path:
        return self.root / "dinov2"

    @property
    def evaluation(self) -> Path:
        """Encoders used in evaluation only: a scene recogniser, and an identity model with a subject segmenter."""
        return self.root / "evaluation"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"


def build_tokenizer(captions: Iterable[str], max_tokens: int = MAX_TOKENS) -> CLIPTokenizer:
    """Learn a CLIP byte-pair vocabulary in which every word of ``captions`` is one token.

    Words outside the captions are split into characters, so that any prompt can be encoded.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    characters = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=2048, initial_alphabet=characters, end_of_word_suffix="</w>", show_progress=False
    )
    alphabet = [" ".join(characters)]
    tokenizer.train_from_iterator([*captions, *alphabet], trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    symbols = [*characters, *(f"{c}</w>" for c in characters), *("".join(m) for m in merges)]
    vocabulary = {s: i for i, s in enumerate(dict.fromkeys([*symbols, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_tokens)


def build_text_encoders(
    tokenizer: CLIPTokenizer, width: int = TEXT_WIDTH, pooled_width: int = POOLED_WIDTH
) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two text towers of ``width`` for the tokenizer's length; the second one also gives the pooled vector."""

    def config(activation: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=3,
            num_attention_heads=width // 32,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=pooled_width,
            hidden_act=activation,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    return CLIPTextModel(config("quick_gelu")), CLIPTextModelWithProjection(config("gelu"))


def build_vae(size: int = IMAGE_SIZE, widths: tuple[int, ...] = (24, 48, 64)) -> AutoencoderKL:
    """An autoencoder of [b, 3, size, size] images, halved between ``widths``: to [b, 4, 16, 16] by default."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=size,
        scaling_factor=1.0,
    )


def build_unet(
    latent_size: int = IMAGE_SIZE // 4,
    widths: tuple[int, int] = (64, 128),
    heads: tuple[int, int] = (2, 4),
    text_width: int = TEXT_WIDTH,
    pooled_width: int = POOLED_WIDTH,
) -> UNet2DConditionModel:
    """A two-level SDXL U-Net with cross-attention in every down, mid and up block."""
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        transformer_layers_per_block=1,
        attention_head_dim=heads,  # diffusers keeps the name of its first release: these are numbers of heads
        cross_attention_dim=2 * text_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=pooled_width + 6 * TIME_ID_WIDTH,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def build_siglip(tokenizer: CLIPTokenizer, width: int) -> SiglipModel:
    """SigLIP, both towers, for `VIEW_SIZE` views in patches of 8 (64 patch tokens)."""
    return SiglipModel(
        SiglipConfig(
            vision_config={
                "hidden_size": width,
                "intermediate_size": 3 * width,
                "num_hidden_layers": 4,
                "num_attention_heads": width // 32,
                "image_size": VIEW_SIZE,
                "patch_size": 8,
            },
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": width,
                "intermediate_size": 3 * width,
                "num_hidden_layers": 2,
                "num_attention_heads": width // 32,
                "max_position_embeddings": MAX_TOKENS,
                "projection_size": width,
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
            },
        )
    )


def build_dinov2(width: int) -> Dinov2WithRegistersModel:
    """DINOv2 with four registers, for `VIEW_SIZE` views in patches of 8 (64 patch tokens)."""
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=width,
            num_hidden_layers=4,
            num_attention_heads=width // 32,
            mlp_ratio=3,
            image_size=VIEW_SIZE,
            patch_size=8,
            num_register_tokens=4,
        )
    )
