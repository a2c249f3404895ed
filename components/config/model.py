"""The model: its frozen parts, the adapter, and how pictures are drawn with them."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from components.config.section import PRESETS, Section


class ModelConfig(Section):
    """The frozen parts, each a hub name or a directory, and the adapter to start from."""

    base: str
    siglip: str
    dinov2: str
    #: Continue from this adapter directory; none starts with an adapter that changes nothing.
    adapter: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class VisionConfig(Section):
    """How a reference becomes patch features (paper section 3.2; sizes in pixels, blocks count from 0)."""

    view_size: int = Field(384, ge=16)
    siglip_block: int = Field(25, ge=0)
    dinov2_block: int = Field(22, ge=0)
    #: Earlier blocks of the global view, for the shallow projector (the authors': 7, 13, 19 and 4, 10, 16).
    siglip_shallow: tuple[NonNegativeInt, ...] = ()
    dinov2_shallow: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="after")
    def _shallow_blocks_pair_up(self) -> VisionConfig:
        if len(self.siglip_shallow) != len(self.dinov2_shallow):
            raise ValueError("siglip_shallow and dinov2_shallow must name equally many blocks")
        return self


class AdapterConfig(Section):
    """The trained part: the projector's sizes (its output is as wide as the U-Net's text context)."""

    head_dim: int = Field(64, ge=8)
    hidden_dim: int = Field(8704, ge=8)
    #: ``shallow`` also reads `vision.siglip_shallow` and `vision.dinov2_shallow`, and yields twice as many tokens.
    #: ``global`` reads no local views: it is there to measure what they are worth.
    projector: Literal["highres", "shallow", "global"] = "highres"
    #: A learned scalar weights what the local views add.
    adaptive_scale: bool = False
    #: Shallow projector: add the local views, as the paper's figure shows it, or drop them, as the released code does.
    shallow_fusion: Literal["figure", "code"] = "figure"


class ConditioningConfig(Section):
    """What an adapter was trained with besides its own sizes. It travels with the weights: no preset sets it."""

    #: SDXL's pooled text vector, or the second text encoder's pooler output before its projection.
    text_pooling: Literal["projected", "unprojected"] = "projected"
    #: The sampler it was made for; none leaves the base model's own.
    scheduler: Literal["realcustom"] | None = None


class GuidanceConfig(Section):
    """Adaptive mask guidance (paper section 3.3)."""

    norm: Literal["max_norm", "min_max_norm", "min_max_per_channel"] = "min_max_per_channel"
    #: Share of positions the subject may act on.
    scope: float = Field(0.25, gt=0, le=1)
    #: Multiplies the influence quantity inside the scope (the paper's is 1).
    quantity: float = Field(1.0, gt=0, le=4)
    #: Steps that find a mask; later steps keep the last one.
    steps: int = Field(12, ge=1)
    #: Read only cross-attention layers whose path starts with one of these; none named reads all.
    layers: tuple[str, ...] = ()
    #: Spread the maps along the self-attention of the mask's resolution.
    self_attention: bool = False
    #: Read the maps in a text-only pass of their own, as the paper, or in the guided pass of the step before.
    source: Literal["separate", "conditional"] = "conditional"
    #: What unconditional rows attend to: ``all`` tokens of a black picture, as the paper, or their ``mean``.
    absent: Literal["all", "mean"] = "mean"
    # Dumped only where it is set: fingerprints of earlier releases, which did not have it, stay valid.
    binary: bool = Field(False, exclude_if=operator.not_)
    """Set the mask to 1 inside the scope. The paper finds continuous values better."""


class SamplingConfig(Section):
    """How pictures are drawn by default."""

    steps: int = Field(25, ge=1)
    guidance_scale: float = Field(3.5, ge=1)
    height: int = Field(1024, multiple_of=8)
    width: int = Field(1024, multiple_of=8)
    guidance: GuidanceConfig = GuidanceConfig()

    @property
    def arguments(self) -> dict[str, Any]:
        """All but the guidance, as a diffusers pipeline takes them."""
        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }


class NamingConfig(Section):
    """One-step mode: how the target word of a prompt is found by its reference."""

    #: Least probability, of 1, at which a phrase of the prompt is taken for the reference's name.
    threshold: float = Field(0.1, ge=0, le=1)
    #: What SigLIP is asked; ``{noun}`` stands for the noun with its article.
    templates: tuple[Annotated[str, Field(pattern=r"\{noun\}")], ...] = Field(("a photo of {noun}",), min_length=1)
    #: Class nouns for prompts that name none: a list, or a text file with one a line.
    nouns: Annotated[tuple[str, ...], Field(min_length=1)] | Path = PRESETS / "nouns.txt"
    #: Tokens that texts are padded to, as in the training of the text tower.
    text_tokens: int = Field(64, ge=4)
