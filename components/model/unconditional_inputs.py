"""Inputs of the unconditional prediction: features of a black reference and of an empty prompt, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.files import replacing_file
from components.model.text import TextFeatures
from components.model.vision import VisionFeatures
from components.tensor_files import TensorFile, write_tensors

#: Names of the features at earlier blocks, by their place.
_SHALLOW = "shallow."


@dataclass(frozen=True)
class UnconditionalInputs:
    """What stands for no reference and no caption."""

    vision: VisionFeatures
    text_tokens: Tensor
    text_pooled: Tensor

    def to(self, device: torch.device) -> UnconditionalInputs:
        """The same on ``device``."""
        shallow = tuple(each.to(device) for each in self.vision.shallow)
        vision = VisionFeatures(self.vision.deep.to(device), self.vision.local.to(device), shallow)
        return UnconditionalInputs(vision, self.text_tokens.to(device), self.text_pooled.to(device))

    @classmethod
    def of(cls, vision: VisionFeatures, text: TextFeatures) -> UnconditionalInputs:
        """In float32, on the CPU."""
        deep, local, *shallow, tokens, pooled = (
            each.to("cpu", torch.float32)
            for each in (vision.deep, vision.local, *vision.shallow, text.tokens, text.pooled)
        )
        return cls(VisionFeatures(deep, local, tuple(shallow)), tokens, pooled)

    def write(self, file: Path) -> None:
        """Write into ``file``, which appears whole."""
        tensors = {
            "deep": self.vision.deep,
            "local": self.vision.local,
            "text_tokens": self.text_tokens,
            "text_pooled": self.text_pooled,
        }
        tensors |= {f"{_SHALLOW}{index}": each for index, each in enumerate(self.vision.shallow)}
        with replacing_file(file) as partial:
            write_tensors(partial, tensors, tensors.__getitem__)

    @classmethod
    def read(cls, file: Path) -> UnconditionalInputs:
        """What `write` wrote."""
        stored = TensorFile(file)
        tensors = {name: stored.read(name) for name in stored.layout}
        shallow = sum(name.startswith(_SHALLOW) for name in tensors)
        vision = VisionFeatures(
            tensors["deep"], tensors["local"], tuple(tensors[f"{_SHALLOW}{index}"] for index in range(shallow))
        )
        return cls(vision, tensors["text_tokens"], tensors["text_pooled"])
