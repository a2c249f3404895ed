"""Training of the storybook's judge, and its accuracy for each attribute.

It shares neither seed nor training images with the generating model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from components.judges.storybook import Recognizer, answers, build_recognizer
from components.precision import autocast
from components.pretraining.loop import Schedule
from components.pretraining.recognizer import worsen
from components.pretraining.storybook.corpus import LabelledPictures
from components.pretraining.storybook.loop import fit, training_device
from components.pretraining.storybook.normalization import use_channels_last, use_plain_layout
from components.pretraining.vae import to_pixels
from components.world.storybook.scenes import Scene

#: Minimum accuracy on real images for an attribute to be used in acceptance criteria.
RELIABLE = 0.97
_OPEN = -100


def train_recognizer(
    pictures: LabelledPictures, schedule: Schedule, checkpoint: Path, deadline: float | None = None
) -> Recognizer | None:
    """Fit the recogniser; None if ``deadline`` came first."""
    torch.manual_seed(schedule.seed)
    device = training_device()
    model = use_channels_last(build_recognizer().to(device))
    labels = _labels(pictures.scenes, list(model.heads))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pictures), (schedule.batch_size,), generator=generator)
        pixels = worsen(to_pixels(pictures.pixels[rows.numpy()]), generator, 0.1)
        with autocast(device):
            logits = model(pixels.to(device, memory_format=torch.channels_last))
        terms = [
            F.cross_entropy(answer.float(), labels[name][rows].to(device), ignore_index=_OPEN, reduction="sum")
            for name, answer in logits.items()
        ]
        return torch.stack(terms).sum() / len(rows)

    trained = fit(model, loss_of, schedule, checkpoint, deadline)
    if trained.step < schedule.steps:
        return None
    assert isinstance(trained.averaged, Recognizer)
    return use_plain_layout(trained.averaged.cpu())


@torch.no_grad()
def accuracies(model: Recognizer, pictures: LabelledPictures, batch: int = 64) -> dict[str, float]:
    """The accuracy of each question on real images to which it applies."""
    labels = _labels(pictures.scenes, list(model.heads))
    read: dict[str, list[Tensor]] = {name: [] for name in labels}
    for start in range(0, len(pictures), batch):
        for name, logits in model(to_pixels(pictures.pixels[start : start + batch])).items():
            read[name].append(logits.argmax(1))
    right = {name: torch.cat(parts) == labels[name] for name, parts in read.items()}
    return {name: float(r[labels[name] != _OPEN].float().mean()) for name, r in right.items()}


def reliable(found: dict[str, float]) -> list[str]:
    """The questions of sufficient accuracy for acceptance criteria."""
    return [name for name, share in found.items() if share >= RELIABLE]


def _labels(scenes: list[Scene], names: list[str]) -> dict[str, Tensor]:
    found = [answers(scene) for scene in scenes]
    return {name: torch.from_numpy(np.array([f.get(name, _OPEN) for f in found])) for name in names}
