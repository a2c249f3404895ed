"""SDXL's text conditioning: prompt embeddings and time ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from components.errors import ConfigError

TextPooling = Literal["projected", "unprojected"]


@dataclass(frozen=True)
class TextFeatures:
    """Prompt embeddings: ``tokens`` [b, t, d] of both encoders, and the ``pooled`` vector [b, p] of the second one.

    ``mask`` [b, t] is 0 at the padding of prompts of different lengths; None where there is no padding.
    """

    tokens: Tensor
    pooled: Tensor
    mask: Tensor | None = None

    def __add__(self, other: TextFeatures) -> TextFeatures:
        """These prompts, then ``other``'s."""
        return stack_texts([self, other])

    def rows(self, rows: slice) -> TextFeatures:
        """Some of the prompts."""
        return TextFeatures(self.tokens[rows], self.pooled[rows], None if self.mask is None else self.mask[rows])

    def repeated(self, times: int) -> TextFeatures:
        """Each prompt ``times`` times."""
        if times == 1:
            return self
        mask = None if self.mask is None else self.mask.repeat_interleave(times, 0)
        return TextFeatures(self.tokens.repeat_interleave(times, 0), self.pooled.repeat_interleave(times, 0), mask)


def stack_texts(texts: Sequence[TextFeatures]) -> TextFeatures:
    """All prompts of ``texts``; shorter ones are padded, and no attention goes to the padding."""
    pooled, width = torch.cat([text.pooled for text in texts]), max(text.tokens.shape[1] for text in texts)
    if all(text.mask is None and text.tokens.shape[1] == width for text in texts):
        return TextFeatures(torch.cat([text.tokens for text in texts]), pooled)
    tokens, masks = [], []
    for text in texts:
        missing = width - text.tokens.shape[1]
        tokens.append(F.pad(text.tokens, (0, 0, 0, missing)))
        mask = text.tokens.new_ones(text.tokens.shape[:2]) if text.mask is None else text.mask
        masks.append(F.pad(mask, (0, missing)))
    return TextFeatures(torch.cat(tokens), pooled, torch.cat(masks))


@torch.no_grad()
def encode_prompts(
    pipeline: StableDiffusionXLPipeline,
    prompts: list[str],
    pooling: TextPooling = "projected",
    clip_skip: int | None = None,
) -> TextFeatures:
    """Encode ``prompts`` as diffusers does; an empty prompt is encoded too, never zeroed.

    Args:
        pooling: the pooled vector as SDXL was trained with it, or the second encoder's pooler output before its
            projection, as the authors' release was (see `ConditioningConfig`).
        clip_skip: number of further layers to skip from the end of both encoders.

    Raises:
        ConfigError: the encoders have fewer layers.
    """
    check_clip_skip(pipeline, clip_skip)
    unprojected: list[Tensor] = []
    projection = pipeline.text_encoder_2.text_projection
    hook = projection.register_forward_pre_hook(lambda _, inputs: unprojected.append(inputs[0]))
    try:
        tokens, _, pooled, _ = pipeline.encode_prompt(
            prompt=prompts, do_classifier_free_guidance=False, clip_skip=clip_skip
        )
    finally:
        hook.remove()
    return TextFeatures(tokens, pooled if pooling == "projected" else unprojected[-1])


def check_clip_skip(pipeline: StableDiffusionXLPipeline, clip_skip: int | None) -> None:
    """Refuse to skip more layers than the text encoders have.

    Raises:
        ConfigError: there are fewer.
    """
    encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    most = min(encoder.config.num_hidden_layers for encoder in encoders) - 1
    if clip_skip is not None and not 0 <= clip_skip <= most:
        raise ConfigError(f"clip_skip: this model's text encoders can skip 0 to {most} layers")


def size_conditioning(original: tuple[int, int], crop: tuple[int, int], target: tuple[int, int], count: int) -> Tensor:
    """SDXL's time ids [count, 6]: (height, width) of the original, (top, left) of the crop, (height, width) wanted."""
    return torch.tensor([[*original, *crop, *target]], dtype=torch.float32).repeat(count, 1)
