"""Evaluation encoders that compare images with images and prompts: DINO and CLIP, or the toy world's judges.

Scores of different encoders are different metrics with different names.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, ViTModel

from components.config import Config, EvaluationConfig
from components.errors import ArtifactError, ConfigError
from components.evaluation.model_facts import name_of
from components.judges.judge import Judge
from components.judges.recognizer import LABELS

#: DINO's preprocessing: ImageNet's statistics, the shorter side in pixels, and the side of the middle square.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SHORTER_SIDE, _SQUARE = 256, 224


class Encoders(Protocol):
    """Encoders of a benchmark: ``similarity`` names the metrics between images, ``text`` that of prompts."""

    similarity: tuple[str, ...]
    text: str

    def embed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Unit vectors [b, d] of RGB ``pictures``, for each metric of ``similarity``."""

    def agreement(self, pictures: list[Image.Image], prompts: list[str]) -> NDArray[np.float64]:
        """Agreement of each image with its prompt, [b]; NaN where it is undefined."""


class PublishedEncoders:
    """DreamBench's encoders: cosines of DINO ViT-S/16 [CLS] tokens, and of CLIP ViT-B/32 pictures and texts."""

    similarity: tuple[str, ...] = ("dino", "clip_i")
    text = "clip_t"

    def __init__(self, dino: str, clip: str, device: torch.device | str = "cpu") -> None:
        """Load the models, each a hub name or a directory.

        Raises:
            ArtifactError: one of them cannot be loaded.
        """
        self._device = torch.device(device)
        self._dino = _load(ViTModel, "dino", dino, add_pooling_layer=False).to(self._device).eval()
        self._clip = _load(CLIPModel, "clip", clip).to(self._device).eval()
        self._processor = _load(CLIPImageProcessorPil, "clip", clip)
        self._tokenizer = _load(CLIPTokenizer, "clip", clip)

    @torch.no_grad()
    def embed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Unit vectors [b, d] by DINO and by CLIP."""
        states = self._dino(pixel_values=dino_pixels(pictures).to(self._device)).last_hidden_state
        return {"dino": F.normalize(states[:, 0], dim=-1).cpu(), "clip_i": self._clip_vectors(pictures)}

    @torch.no_grad()
    def agreement(self, pictures: list[Image.Image], prompts: list[str]) -> NDArray[np.float64]:
        """Cosines of CLIP's pictures and prompts, [b]; long prompts are truncated."""
        tokens = self._tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").to(self._device)
        texts = F.normalize(self._clip.get_text_features(**tokens).pooler_output, dim=-1).cpu()
        return (self._clip_vectors(pictures) * texts).sum(1).double().numpy()

    def _clip_vectors(self, pictures: list[Image.Image]) -> Tensor:
        pixels = self._processor(images=pictures, return_tensors="pt").pixel_values.to(self._device)
        return F.normalize(self._clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1).cpu()


class ToyEncoders:
    """The toy world's judges: cosines of the identity model, and the recogniser's probability of what a prompt names.

    Words other than the toy world's kinds and places are ignored.
    """

    similarity: tuple[str, ...] = ("toy_identity",)
    text = "toy_text"

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def embed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Unit vectors [b, d] of the identity model."""
        return {"toy_identity": self._judge.embed(pictures)}

    def agreement(self, pictures: list[Image.Image], prompts: list[str]) -> NDArray[np.float64]:
        """Mean probability of the answers that each prompt names, [b]; NaN if it names none."""
        found = self._judge.probabilities(pictures)
        named = [named_answers(prompt) for prompt in prompts]
        scores = [[float(found[q][row, a]) for q, a in answers] for row, answers in enumerate(named)]
        return np.array([np.mean(row) if row else np.nan for row in scores])


def load_encoders(config: Config) -> Encoders:
    """`evaluation.dino` and `evaluation.clip`, or the judges in `evaluation.encoders`.

    Raises:
        ConfigError: neither is given.
        ArtifactError: one of them cannot be loaded.
    """
    evaluation = config.evaluation
    if evaluation.dino is not None and evaluation.clip is not None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = device if config.model.device == "auto" else config.model.device
        return PublishedEncoders(evaluation.dino, evaluation.clip, device)
    if evaluation.encoders is None:
        raise ConfigError(
            "evaluation: no encoders; name evaluation.dino and evaluation.clip, each a hub name or a directory"
        )
    return ToyEncoders(Judge(evaluation.encoders, config.vision.view_size))


def encoder_names(evaluation: EvaluationConfig) -> dict[str, str]:
    """Role -> a hash of the directory's files, or the hub name."""
    roles = {"dino": evaluation.dino, "clip": evaluation.clip}
    if evaluation.dino is None:
        roles = {"encoders": evaluation.encoders}
    return {role: name_of(place) for role, place in roles.items() if place is not None}


def dino_pixels(pictures: list[Image.Image]) -> Tensor:
    """DINO's input [b, 3, 224, 224]: shorter side to 256 (bicubic), middle square of 224, ImageNet's statistics."""
    squares = np.stack([np.asarray(_middle(picture.convert("RGB"))) for picture in pictures])
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels - mean) / std


def named_answers(prompt: str) -> list[tuple[str, int]]:
    """The kinds and places of `LABELS` that ``prompt`` names, as pairs of question and answer."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    return [
        (question, index)
        for question in ("kind", "place")
        for index, answer in enumerate(LABELS[question])
        if answer in words
    ]


def _middle(picture: Image.Image) -> Image.Image:
    """Equal to torchvision's ``Resize(256, bicubic)`` and ``CenterCrop(224)`` of Pillow images."""
    short = min(picture.size)
    width, height = (int(_SHORTER_SIDE * side / short) for side in picture.size)
    sized = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - _SQUARE) / 2), round((height - _SQUARE) / 2)
    return sized.crop((left, top, left + _SQUARE, top + _SQUARE))


def _load(kind, role: str, place: str, **arguments):  # type: ignore[no-untyped-def]
    try:
        return kind.from_pretrained(place, **arguments)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"evaluation.{role}: {place} cannot be loaded: {str(error).splitlines()[0]}") from None
