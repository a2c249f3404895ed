"""Training of the recogniser on labelled scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from components.judges.recognizer import LABELS, Recognizer, build_recognizer
from components.precision import autocast
from components.pretraining.corpus import Scenes
from components.pretraining.loop import Schedule, fit
from components.pretraining.vae import to_pixels


def train_recognizer(scenes: Scenes, schedule: Schedule, checkpoint: Path) -> Recognizer:
    """Fit the recogniser to one-subject scenes, some blurred or noisy as generated images can be."""
    torch.manual_seed(schedule.seed)
    model = build_recognizer()
    single = np.array([i for i, facts in enumerate(scenes.facts) if facts.subjects == 1])
    labels = {
        name: torch.tensor([answers.index(getattr(scenes.facts[i], name)) for i in single])
        for name, answers in LABELS.items()
    }

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(single), (schedule.batch_size,), generator=generator)
        pixels = worsen(to_pixels(scenes.pictures[single[rows.numpy()]]), generator, 0.15)
        with autocast(torch.device("cpu")):
            logits = model(pixels)
        return torch.stack([F.cross_entropy(logits[name].float(), labels[name][rows]) for name in LABELS]).sum()

    trained = fit(model, loss_of, schedule, checkpoint)
    assert isinstance(trained, Recognizer)
    return trained


def worsen(pixels: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    """Blur a third of the images and add ``noise`` to another third, as an augmentation."""
    third = len(pixels) // 3
    blurred = F.interpolate(F.avg_pool2d(pixels[:third], 2), scale_factor=2, mode="bilinear", align_corners=False)
    noisy = pixels[third : 2 * third]
    noisy = noisy + noise * torch.randn(noisy.shape, generator=generator)
    return torch.cat([blurred, noisy, pixels[2 * third :]])
