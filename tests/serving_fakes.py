"""A pipeline that paints instead of denoising, and the registry it comes from (module path ``tests.serving_fakes``)."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from components.config import Config
from components.errors import RegistryError, WordError
from components.model.subjects import Subject

READ_WORDS = 20


class FakePipeline:
    """Fills the picture with a colour drawn from the seed, and its middle with the mean colour of the subject.

    A prompt with the word "slow" takes half a second.
    """

    reference_size = 32

    def __init__(self, token_identity: str = "fake-1") -> None:
        self.token_identity = token_identity
        #: How many pictures each call drew, and how often a subject was encoded.
        self.calls: list[int] = []
        self.encoded = 0

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor:
        self.encoded += 1
        assert all(picture.size == (32, 32) for picture in pictures)
        return torch.stack([_subject_color(picture) for picture in pictures])

    def face_group(self, boxes: list[Any]) -> Tensor | None:
        face = torch.tensor([box is not None for box in boxes])
        return face if face.any() else None

    def __call__(
        self,
        prompt: list[str],
        *,
        height: int,
        width: int,
        generator: list[torch.Generator],
        subjects: list[list[Subject]] | None = None,
        **_: Any,
    ) -> SimpleNamespace:
        for text, own in zip(prompt, subjects or [], strict=False):
            if any(subject.word not in text.split()[:READ_WORDS] for subject in own):
                raise WordError(
                    f"target_word: it stands beyond the {READ_WORDS} words the model reads; move it forward"
                )
        self.calls.append(len(prompt))
        if any("slow" in text for text in prompt):
            time.sleep(0.5)
        images = []
        for index, source in enumerate(generator):
            image = np.empty((height, width, 3), np.uint8)
            image[:] = torch.randint(256, (3,), generator=source).numpy()
            if subjects is not None:
                middle = np.array_split(np.arange(width // 4, width - width // 4), len(subjects[index]))
                for subject, columns in zip(subjects[index], middle, strict=True):
                    color = (subject.tokens * subject.gain[:, None]).mean(0).numpy()
                    image[height // 4 : -height // 4, columns] = color
            images.append(Image.fromarray(image))
        masks = subjects and [[Image.new("L", (width, height), 255)] * len(own) for own in subjects]
        return SimpleNamespace(images=images, masks=masks)


def _subject_color(cut_out: Image.Image) -> Tensor:
    """The colour in the middle."""
    return torch.from_numpy(np.array(cut_out)).float()[16, 16]


def resolve(config: Config, uri: str) -> SimpleNamespace:
    if uri != "models:/realcustom-tiny@champion":
        raise RegistryError("model URI: not in the registry")
    return SimpleNamespace(name="realcustom-tiny", version="7")


def load_pipeline(config: Config, uri: str) -> FakePipeline:
    assert uri == "models:/realcustom-tiny/7", "the alias must be resolved before replicas load"
    return FakePipeline()
