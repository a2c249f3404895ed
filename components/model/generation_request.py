"""`GenerationRequest`: the arguments of one call of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from components.config import GuidanceConfig
from components.model.control import Control
from components.model.loras import LoraSet
from components.model.redraw import Pictures
from components.model.subjects import Subjects


class PromptOptions(TypedDict, total=False):
    """Fields of `GenerationRequest` that say how prompts are read and followed; all can be written as JSON."""

    prompt_weighting: bool
    clip_skip: int | None
    guidance_rescale: float
    original_size: tuple[int, int] | None
    crops_coords_top_left: tuple[int, int]
    target_size: tuple[int, int] | None
    negative_original_size: tuple[int, int] | None
    negative_crops_coords_top_left: tuple[int, int]
    negative_target_size: tuple[int, int] | None


class CallOptions(PromptOptions, total=False):
    """Further fields of `GenerationRequest` that a call of the pipeline takes by name."""

    num_images_per_prompt: int
    loras: Mapping[str, float] | LoraSet
    control: Control | None
    ip_adapter_image: Pictures | None
    ip_adapter_image_embeds: list[Tensor] | None
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None
    pooled_prompt_embeds: Tensor | None
    negative_pooled_prompt_embeds: Tensor | None


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """One image a prompt; field names and defaults are those of diffusers' pipelines where these have them.

    Args:
        prompt: one prompt, or b of them.
        subjects: one `Subject` or several for all prompts, or a list of subjects for each prompt; none is stock SDXL.
        negative_prompt: one for all prompts, or one a prompt; encoded, never zeroed, even if empty.
        guidance_scale: scale of classifier-free guidance; 1 turns it off.
        height, width: pixels, multiples of the autoencoder's factor; the U-Net's size by default.
        generator: one, or one a prompt, so that a seed gives the same image alone and in a batch.
        latents: initial noise [b, 4, h, w] of unit variance in place of that of ``generator``.
        mask_scope: share of the image on which a subject may act; that of ``guidance`` by default.
        guidance: how influence masks are computed; the pipeline's by default.
        eta: of schedulers with that parameter.
        scheduler: a scheduler for this request alone; a copy of the pipeline's by default.
        image: a picture to redraw, or one a prompt; its size is the default of ``height`` and ``width``.
        mask_image: redraw it where this is white; outside, no pixel changes. By default all of it is redrawn.
        strength: share of the steps that redraw ``image``, above 0, at most 1.
        loras: weights of loaded LoRAs by name; no other acts.
        control: a loaded ControlNet or T2I-Adapter with the picture that it follows.
        ip_adapter_image: a picture of a style for the loaded IP-Adapter, or one for each; none acts without it.
        ip_adapter_image_embeds: their features in place of the pictures, as diffusers' pipelines take them.
        num_images_per_prompt: images of each prompt, one after the other; ``generator`` has one an image.
        prompt_weighting: ``(robot:1.3)`` weights words, and prompts of any length are read in chunks, see
            `components.model.prompt_weights`; otherwise they are read as in diffusers, up to the tokenizers' limit.
        clip_skip: number of the text encoders' last layers to skip beside SDXL's one, for
            the prompts; as in diffusers, negative prompts are encoded as without it.
        guidance_rescale: share (0 to 1) in which the guided prediction gets the standard deviation of the conditional
            one, against overexposure.
        original_size, crops_coords_top_left, target_size: SDXL's size conditioning, (height, width) and (top, left);
            by default those of the image.
        negative_original_size, negative_crops_coords_top_left, negative_target_size: the same of the unconditional
            rows, if both sizes are given.
        prompt_embeds, pooled_prompt_embeds: embeddings [b, t, d] and [b, p] in place of the encoded prompts, which then
            serve to find the subjects' words; without subjects no prompt is needed.
        negative_prompt_embeds, negative_pooled_prompt_embeds: the same of the negative prompts.

    Raises:
        ValueError: ``negative_prompt``, ``generator`` or embeddings differ in number from ``prompt``, a share is out of
            its bounds, or there is a mask but no image.
    """

    prompt: str | list[str] | None
    subjects: Subjects | None = None
    negative_prompt: str | list[str] = ""
    num_inference_steps: int = 25
    guidance_scale: float = 3.5
    height: int | None = None
    width: int | None = None
    generator: torch.Generator | list[torch.Generator] | None = None
    latents: Tensor | None = None
    mask_scope: float | None = None
    guidance: GuidanceConfig | None = None
    eta: float = 0.0
    scheduler: Any = None
    image: Pictures | None = None
    mask_image: Pictures | None = None
    strength: float = 0.8
    loras: Mapping[str, float] | LoraSet = ()
    control: Control | None = None
    ip_adapter_image: Pictures | None = None
    ip_adapter_image_embeds: list[Tensor] | None = None
    num_images_per_prompt: int = 1
    prompt_weighting: bool = False
    clip_skip: int | None = None
    guidance_rescale: float = 0.0
    original_size: tuple[int, int] | None = None
    crops_coords_top_left: tuple[int, int] = (0, 0)
    target_size: tuple[int, int] | None = None
    negative_original_size: tuple[int, int] | None = None
    negative_crops_coords_top_left: tuple[int, int] = (0, 0)
    negative_target_size: tuple[int, int] | None = None
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.prompts)
        if len(self.negative_prompts) != count:
            raise ValueError(f"negative_prompt: {len(self.negative_prompts)} for {count} prompts")
        if self.num_images_per_prompt < 1:
            raise ValueError("num_images_per_prompt: at least 1")
        if isinstance(self.generator, list) and len(self.generator) != self.count:
            raise ValueError(f"generator: {len(self.generator)} for {self.count} images")
        if not 0 <= self.guidance_rescale <= 1:
            raise ValueError(f"guidance_rescale: {self.guidance_rescale} does not lie between 0 and 1")
        self._check_embeds()
        if self.mask_scope is not None and not 0 < self.mask_scope <= 1:
            raise ValueError(f"mask_scope: {self.mask_scope} does not lie between 0 and 1")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: {self.strength} does not lie between 0 and 1")
        if self.mask_image is not None and self.image is None:
            raise ValueError("mask_image: give the image that it masks")

    def _check_embeds(self) -> None:
        pairs = {
            "prompt_embeds": (self.prompt_embeds, self.pooled_prompt_embeds),
            "negative_prompt_embeds": (self.negative_prompt_embeds, self.negative_pooled_prompt_embeds),
        }
        for name, (tokens, pooled) in pairs.items():
            if (tokens is None) != (pooled is None):
                raise ValueError(f"{name}: give {name.replace('prompt', 'pooled_prompt')} too")
            if tokens is not None and (tokens.ndim != 3 or len(tokens) != len(self.prompts)):
                raise ValueError(f"{name}: {tuple(tokens.shape)} for {len(self.prompts)} prompts; give [b, t, d]")
        if self.prompt is None and self.prompt_embeds is None:
            raise ValueError("prompt: give it, or prompt_embeds")

    @property
    def prompts(self) -> list[str]:
        """The prompts; empty ones where only their embeddings are given."""
        if self.prompt is None:
            return [""] * (0 if self.prompt_embeds is None else len(self.prompt_embeds))
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.prompts) * self.num_images_per_prompt

    @property
    def negative_prompts(self) -> list[str]:
        """The negative prompt of each prompt."""
        if isinstance(self.negative_prompt, str):
            return [self.negative_prompt] * len(self.prompts)
        return list(self.negative_prompt)

    def guidance_or(self, default: GuidanceConfig) -> GuidanceConfig:
        """The guidance with this request's scope; ``default`` where the request has none."""
        guidance = self.guidance or default
        return guidance if self.mask_scope is None else guidance.model_copy(update={"scope": self.mask_scope})
