"""The evaluation encoder that recognises scenes: what kind of subject, in which place, at which position.

It is a small ResNet, of another family than everything that conditions a picture, trained on labelled scenes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from components.precision import autocast
from components.pretraining.corpus import Scenes
from components.pretraining.loop import Schedule, fit
from components.pretraining.vae import to_pixels
from components.world.identities import KINDS
from components.world.places import PLACES
from components.world.scenes import POSITIONS

LABELS: dict[str, tuple[str, ...]] = {"kind": KINDS, "place": tuple(PLACES), "position": tuple(POSITIONS)}


class Recognizer(nn.Module):
    """A backbone and one linear head a question."""

    def __init__(self, backbone: ResNetModel) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.hidden_sizes[-1]
        self.heads = nn.ModuleDict({name: nn.Linear(4 * width, len(answers)) for name, answers in LABELS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """[b, 3, 64, 64] in [-1, 1] -> logits [b, answers] of every question."""
        grid = self.backbone(pixel_values=pixels).last_hidden_state
        features = F.adaptive_avg_pool2d(grid, (1, 4)).flatten(1)  # columns stay apart, or the position would be lost
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


def train_recognizer(scenes: Scenes, schedule: Schedule, checkpoint: Path) -> Recognizer:
    """Fit the recogniser to one-subject scenes, some blurred or noisy as drawn pictures can be."""
    torch.manual_seed(schedule.seed)
    model = build_recognizer()
    single = np.array([i for i, facts in enumerate(scenes.facts) if facts.subjects == 1])
    labels = {
        name: torch.tensor([answers.index(getattr(scenes.facts[i], name)) for i in single])
        for name, answers in LABELS.items()
    }

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(single), (schedule.batch_size,), generator=generator)
        pixels = _worsen(to_pixels(scenes.pictures[single[rows.numpy()]]), generator)
        with autocast(torch.device("cpu")):
            logits = model(pixels)
        return torch.stack([F.cross_entropy(logits[name].float(), labels[name][rows]) for name in LABELS]).sum()

    trained = fit(model, loss_of, schedule, checkpoint)
    assert isinstance(trained, Recognizer)
    return trained


def save_recognizer(model: Recognizer, directory: Path) -> None:
    """Write the backbone in transformers' layout, with the heads beside it."""
    model.backbone.save_pretrained(directory)
    save_file({k: v.contiguous() for k, v in model.heads.state_dict().items()}, directory / "heads.safetensors")


def load_recognizer(directory: Path) -> Recognizer:
    """Read what `save_recognizer` wrote."""
    model = Recognizer(ResNetModel.from_pretrained(directory, dtype=torch.float32))
    model.heads.load_state_dict(load_file(directory / "heads.safetensors"))
    return model.requires_grad_(False).eval()


def _worsen(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blur a third of the pictures and add noise to another third."""
    third = len(pixels) // 3
    blurred = F.interpolate(F.avg_pool2d(pixels[:third], 2), scale_factor=2, mode="bilinear", align_corners=False)
    noisy = pixels[third : 2 * third]
    noisy = noisy + 0.15 * torch.randn(noisy.shape, generator=generator)
    return torch.cat([blurred, noisy, pixels[2 * third :]])
