"""Data of further trainings of the base: latents of toy-world scenes, and the text features of their captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.model.text import TextFeatures, encode_prompts
from components.pretraining import corpus
from components.pretraining.vae import encode

_CHUNK = 256


@dataclass(frozen=True)
class CaptionedLatents:
    """Scaled latents with the features of their captions.

    Args:
        latents: [n, 4, h, w].
        captions: index [n] of each latent's caption in ``text``.
        text: features of the different captions, the last of which is the empty one.
    """

    latents: Tensor
    captions: Tensor
    text: TextFeatures

    def features(self, captions: Tensor) -> TextFeatures:
        """The features of captions by their index [b]; -1 is the empty one."""
        return TextFeatures(self.text.tokens[captions], self.text.pooled[captions])


def world_latents(
    pipeline: StableDiffusionXLPipeline,
    count: int,
    size: int,
    seed: int,
    cache: Path,
    change: Callable[[np.ndarray], np.ndarray] = lambda pictures: pictures,
) -> CaptionedLatents:
    """Draw ``count`` scenes of ``size`` pixels and encode them, or read the latents from ``cache``.

    Args:
        change: of all pictures, uint8 [n, s, s, 3], before they are encoded.
    """
    scenes = corpus.scenes(count, size, seed, "train", cache / "scenes")
    file = cache / "latents.safetensors"
    if not file.exists():
        save_file({"latents": encode(pipeline.vae, change(scenes.pictures)).contiguous()}, file)
    captions = [facts.caption for facts in scenes.facts]
    different = sorted(set(captions))
    place = {caption: index for index, caption in enumerate(different)}
    return CaptionedLatents(
        load_file(file)["latents"],
        torch.tensor([place[caption] for caption in captions]),
        encode_captions(pipeline, [*different, ""]),
    )


def encode_captions(pipeline: StableDiffusionXLPipeline, captions: list[str]) -> TextFeatures:
    """The features of ``captions`` as the pipeline encodes prompts."""
    chunks = [encode_prompts(pipeline, captions[i : i + _CHUNK]) for i in range(0, len(captions), _CHUNK)]
    return TextFeatures(torch.cat([c.tokens for c in chunks]), torch.cat([c.pooled for c in chunks]))
