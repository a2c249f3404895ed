"""SDXL's text conditioning, the one place where prompts become embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor


@dataclass(frozen=True)
class TextFeatures:
    """``tokens`` [b, t, d] of both encoders, and the ``pooled`` vector [b, p] of the second one."""

    tokens: Tensor
    pooled: Tensor

    def __add__(self, other: TextFeatures) -> TextFeatures:
        """These prompts, then ``other``'s."""
        return TextFeatures(torch.cat([self.tokens, other.tokens]), torch.cat([self.pooled, other.pooled]))


@torch.no_grad()
def encode_prompts(pipeline: StableDiffusionXLPipeline, prompts: list[str]) -> TextFeatures:
    """Encode ``prompts`` as diffusers does; an empty prompt is encoded too, never zeroed."""
    tokens, _, pooled, _ = pipeline.encode_prompt(prompt=prompts, do_classifier_free_guidance=False)
    return TextFeatures(tokens, pooled)


def size_conditioning(original: tuple[int, int], crop: tuple[int, int], target: tuple[int, int], count: int) -> Tensor:
    """SDXL's time ids [count, 6]: (height, width) of the original, (top, left) of the crop, (height, width) wanted."""
    return torch.tensor([[*original, *crop, *target]], dtype=torch.float32).repeat(count, 1)
