"""SDXL's text conditioning: prompt embeddings and time ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

TextPooling = Literal["projected", "unprojected"]


@dataclass(frozen=True)
class TextFeatures:
    """Prompt embeddings: ``tokens`` [b, t, d] of both encoders, and the ``pooled`` vector [b, p] of the second one."""

    tokens: Tensor
    pooled: Tensor

    def __add__(self, other: TextFeatures) -> TextFeatures:
        """These prompts, then ``other``'s."""
        return TextFeatures(torch.cat([self.tokens, other.tokens]), torch.cat([self.pooled, other.pooled]))


@torch.no_grad()
def encode_prompts(
    pipeline: StableDiffusionXLPipeline, prompts: list[str], pooling: TextPooling = "projected"
) -> TextFeatures:
    """Encode ``prompts`` as diffusers does; an empty prompt is encoded too, never zeroed.

    Args:
        pooling: the pooled vector as SDXL was trained with it, or the second encoder's pooler output before its
            projection, as the authors' release was (see `ConditioningConfig`).
    """
    unprojected: list[Tensor] = []
    projection = pipeline.text_encoder_2.text_projection
    hook = projection.register_forward_pre_hook(lambda _, inputs: unprojected.append(inputs[0]))
    try:
        tokens, _, pooled, _ = pipeline.encode_prompt(prompt=prompts, do_classifier_free_guidance=False)
    finally:
        hook.remove()
    return TextFeatures(tokens, pooled if pooling == "projected" else unprojected[-1])


def size_conditioning(original: tuple[int, int], crop: tuple[int, int], target: tuple[int, int], count: int) -> Tensor:
    """SDXL's time ids [count, 6]: (height, width) of the original, (top, left) of the crop, (height, width) wanted."""
    return torch.tensor([[*original, *crop, *target]], dtype=torch.float32).repeat(count, 1)
