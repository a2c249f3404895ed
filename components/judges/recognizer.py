"""The recogniser of toy-world scenes: classifies kind, place and position of the subject.

A small ResNet, of another family than every encoder of the model.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from components.world.identities import KINDS
from components.world.places import PLACES
from components.world.scenes import POSITIONS

LABELS: dict[str, tuple[str, ...]] = {"kind": KINDS, "place": tuple(PLACES), "position": tuple(POSITIONS)}


class Recognizer(nn.Module):
    """A backbone with one linear head for each question."""

    def __init__(self, backbone: ResNetModel) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.hidden_sizes[-1]
        self.heads = nn.ModuleDict({name: nn.Linear(4 * width, len(answers)) for name, answers in LABELS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """[b, 3, 64, 64] in [-1, 1] -> logits [b, answers] of every question."""
        grid = self.backbone(pixel_values=pixels).last_hidden_state
        features = F.adaptive_avg_pool2d(grid, (1, 4)).flatten(1)  # pooled by column, to keep the position
        return {name: head(features) for name, head in self.heads.items()}


def build_recognizer() -> Recognizer:
    """An untrained recogniser."""
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[48, 96, 160],
        depths=[1, 1, 1],
        layer_type="basic",
        downsample_in_first_stage=False,
    )
    return Recognizer(ResNetModel(config))


def save_recognizer(model: Recognizer, directory: Path) -> None:
    """Write the backbone in transformers' layout, with the heads beside it."""
    model.backbone.save_pretrained(directory)
    save_file({k: v.contiguous() for k, v in model.heads.state_dict().items()}, directory / "heads.safetensors")


def load_recognizer(directory: Path) -> Recognizer:
    """Read what `save_recognizer` wrote."""
    model = Recognizer(ResNetModel.from_pretrained(directory, dtype=torch.float32))
    model.heads.load_state_dict(load_file(directory / "heads.safetensors"))
    return model.requires_grad_(False).eval()
