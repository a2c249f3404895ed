"""`GenerationRequest`: the arguments of one call of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.config import GuidanceConfig
from components.model.redraw import Pictures
from components.model.subjects import Subjects


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

    Raises:
        ValueError: ``negative_prompt`` or ``generator`` differs in length from ``prompt``, ``mask_scope`` or
            ``strength`` is no share, or there is a mask but no image.
    """

    prompt: str | list[str]
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

    def __post_init__(self) -> None:
        count = len(self.prompts)
        if len(self.negative_prompts) != count:
            raise ValueError(f"negative_prompt: {len(self.negative_prompts)} for {count} prompts")
        if isinstance(self.generator, list) and len(self.generator) != count:
            raise ValueError(f"generator: {len(self.generator)} for {count} prompts")
        if self.mask_scope is not None and not 0 < self.mask_scope <= 1:
            raise ValueError(f"mask_scope: {self.mask_scope} does not lie between 0 and 1")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: {self.strength} does not lie between 0 and 1")
        if self.mask_image is not None and self.image is None:
            raise ValueError("mask_image: give the image that it masks")

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)

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
