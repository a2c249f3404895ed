"""The model: its frozen parts, the adapter, and how images are sampled."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from components.config.section import PRESETS, Section


class ModelConfig(Section):
    """The frozen parts of the model, and the adapter to start from."""

    base: str
    """Stable Diffusion XL: a hub name, a directory in the layout of diffusers, or a single-file checkpoint
    (``.safetensors``) to generate with; data preparation and training need a directory or a hub name."""
    # Dumped only where it is set: fingerprints of earlier releases, which did not have it, stay valid.
    base_config: str | None = Field(None, exclude_if=operator.not_)
    """Of a single-file `base`: a directory in the layout of diffusers, or a hub name, with the configurations of its
    parts and the tokenizers. ``null``: the directory beside the file that has its name, or that of the file."""
    siglip: str
    """SigLIP vision encoder: a hub name or a directory in the layout of transformers."""
    dinov2: str
    """DINOv2 (with registers) vision encoder: a hub name or a directory in the layout of transformers."""
    adapter: str | None = None
    """Adapter directory to start from; ``null`` starts with an untrained adapter, which changes no image."""
    # Dumped only where it is set: fingerprints of earlier releases, which did not have it, stay valid.
    loras: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], str] = Field({}, exclude_if=operator.not_)
    """LoRAs that requests may name: files, directories or hub names, by name."""
    controls: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], str] = Field({}, exclude_if=operator.not_)
    """ControlNets and T2I-Adapters that requests may name: directories as of diffusers, or hub names, by name."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the frozen parts and of sampling."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the frozen parts; ``auto`` is CUDA where it is available. On a cluster ``cuda`` waits for a GPU."""
    # Dumped only where they are set: fingerprints of earlier releases, which did not have them, stay valid.
    vae_tiling: bool = Field(False, exclude_if=operator.not_)
    """Decode images that are larger than the autoencoder's own size in overlapping tiles, which bounds the memory."""
    vae_slicing: bool = Field(False, exclude_if=operator.not_)
    """Decode the images of a batch one by one, which bounds the memory; the images are the same."""
    channels_last: bool = Field(False, exclude_if=operator.not_)
    """Store the convolutions of U-Net and autoencoder with the channels last, which is faster on many GPUs."""
    tf32: bool = Field(False, exclude_if=operator.not_)
    """Multiply float32 matrices in TF32 on GPUs that have it: faster, less precise."""


class VisionConfig(Section):
    """Patch features of a reference (paper section 3.2)."""

    view_size: int = Field(384, ge=16)
    """Side of the global view, and of each of the four local views, in pixels."""
    siglip_block: int = Field(25, ge=0)
    """SigLIP block whose patch features are used, counted from 0."""
    dinov2_block: int = Field(22, ge=0)
    """DINOv2 block whose patch features are used, counted from 0."""
    siglip_shallow: tuple[NonNegativeInt, ...] = ()
    """Earlier SigLIP blocks of the global view, for the shallow projector (the authors': 7, 13, 19)."""
    dinov2_shallow: tuple[NonNegativeInt, ...] = ()
    """Earlier DINOv2 blocks of the global view, as many as `siglip_shallow` (the authors': 4, 10, 16)."""

    @model_validator(mode="after")
    def _shallow_blocks_pair_up(self) -> VisionConfig:
        if len(self.siglip_shallow) != len(self.dinov2_shallow):
            raise ValueError("siglip_shallow and dinov2_shallow must name equally many blocks")
        return self


class AdapterConfig(Section):
    """Sizes of the adapter's projector (its output is as wide as the U-Net's text context)."""

    head_dim: int = Field(64, ge=8)
    """Width of an attention head of the projector."""
    hidden_dim: int = Field(8704, ge=8)
    """Hidden width of the projector's MLP."""
    projector: Literal["highres", "shallow", "global"] = "highres"
    """Kind of projector: ``highres`` fuses the global view with the local views; ``shallow`` also reads
    `vision.siglip_shallow` and `vision.dinov2_shallow`, and outputs twice as many tokens; ``global`` reads no local
    views (an ablation)."""
    adaptive_scale: bool = False
    """Weight the local views' contribution by a learned scalar."""
    shallow_fusion: Literal["figure", "code"] = "figure"
    """Shallow projector: add the local views, as in the paper's ``figure``, or leave them out, as in the released
    ``code``."""


class ConditioningConfig(Section):
    """Conditions under which an adapter was trained. They are stored with its weights; no preset sets them."""

    text_pooling: Literal["projected", "unprojected"] = "projected"
    """Pooled text vector: SDXL's (``projected``), or the second text encoder's pooler output before its projection."""
    scheduler: Literal["realcustom"] | None = None
    """Sampler the adapter was trained for; ``null`` keeps the base model's own."""


class GuidanceConfig(Section):
    """Adaptive mask guidance (paper section 3.3)."""

    norm: Literal["max_norm", "min_max_norm", "min_max_per_channel"] = "min_max_per_channel"
    """Normalisation of the attention maps: by the maximum of their mean (``max_norm``), by its minimum and maximum
    (``min_max_norm``), or of every layer before the mean as well (``min_max_per_channel``)."""
    scope: float = Field(0.25, gt=0, le=1)
    """Share of positions at which the subject may act (influence scope)."""
    quantity: float = Field(1.0, gt=0, le=4)
    """Factor on the influence quantity inside the scope (the paper's is 1)."""
    steps: int = Field(12, ge=1)
    """Number of steps that compute a mask; later steps reuse the last one."""
    layers: tuple[str, ...] = ()
    """Read only cross-attention layers whose path starts with one of these prefixes; an empty list reads all."""
    self_attention: bool = False
    """Refine the maps by the self-attention at the mask's resolution."""
    source: Literal["separate", "conditional"] = "conditional"
    """Pass that yields the maps: a ``separate`` text-only pass, as in the paper, or the ``conditional`` pass of the
    previous step, which costs no extra pass."""
    absent: Literal["all", "mean"] = "mean"
    """What unconditional rows attend to: ``all`` tokens of a black image, as in the paper, or their ``mean``."""
    # Dumped only where it is set: fingerprints of earlier releases, which did not have it, stay valid.
    binary: bool = Field(False, exclude_if=operator.not_)
    """Set the mask to 1 inside the scope. The paper finds continuous values better."""


class SamplingConfig(Section):
    """Defaults of image generation."""

    steps: int = Field(25, ge=1)
    """Denoising steps."""
    guidance_scale: float = Field(3.5, ge=1)
    """Weight of classifier-free guidance; 1 turns it off."""
    height: int = Field(1024, multiple_of=8)
    """Height of generated images in pixels."""
    width: int = Field(1024, multiple_of=8)
    """Width of generated images in pixels."""
    guidance: GuidanceConfig = GuidanceConfig()
    """Adaptive mask guidance."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of a diffusers pipeline call: all settings but the guidance."""
        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }


class NamingConfig(Section):
    """One-step mode: detection of a prompt's target word by the reference."""

    threshold: float = Field(0.1, ge=0, le=1)
    """Minimum probability, from 0 to 1, at which a phrase of the prompt is taken as the reference's name."""
    templates: tuple[Annotated[str, Field(pattern=r"\{noun\}")], ...] = Field(("a photo of {noun}",), min_length=1)
    """Texts that SigLIP compares with the reference; ``{noun}`` stands for the noun with its article."""
    nouns: Annotated[tuple[str, ...], Field(min_length=1)] | Path = PRESETS / "nouns.txt"
    """Class nouns for prompts that name no subject: a list, or a text file with one per line."""
    text_tokens: int = Field(64, ge=4)
    """Tokens to which texts are padded, as in the training of SigLIP's text tower."""
