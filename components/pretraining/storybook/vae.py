"""The autoencoder of the 128-pixel miniature, trained by reconstruction with a larger weight on subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from components.precision import autocast
from components.pretraining.loop import Schedule
from components.pretraining.storybook.builders import build_vae
from components.pretraining.storybook.corpus import LabelledPictures
from components.pretraining.storybook.loop import fit, training_device
from components.pretraining.storybook.normalization import use_channels_last, use_plain_layout
from components.pretraining.vae import standardise, to_pixels

#: Weight of errors on subjects, relative to the background.
SUBJECT_WEIGHT = 3.0


def train_vae(
    pictures: LabelledPictures, schedule: Schedule, checkpoint: Path, deadline: float | None = None
) -> AutoencoderKL | None:
    """Fit the autoencoder, with zero mean and unit deviation of each latent channel; None if ``deadline`` came first.

    Grids of images and their reconstructions are saved beside ``checkpoint`` as PNG.
    """
    torch.manual_seed(schedule.seed)
    device = training_device()
    vae = use_channels_last(build_vae().to(device))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pictures), (schedule.batch_size,), generator=generator).numpy()
        pixels = to_pixels(pictures.pixels[rows]).to(device, memory_format=torch.channels_last)
        weights = 1 + (SUBJECT_WEIGHT - 1) * torch.from_numpy(pictures.subjects[rows])[:, None].to(device).float()
        with autocast(device):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample(generator)).sample
        kl = (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean() / 2
        return _reconstruction(decoded.float(), pixels, weights) + 1e-4 * kl

    def show(averaged: nn.Module, step: int) -> None:
        assert isinstance(averaged, AutoencoderKL)
        reconstructions(averaged, pictures.pixels[:8]).save(checkpoint.parent / f"reconstructions_{step:06d}.png")

    trained = fit(vae, loss_of, schedule, checkpoint, deadline, show, show_every=200)
    if trained.step < schedule.steps:
        return None
    assert isinstance(trained.averaged, AutoencoderKL)
    use_plain_layout(trained.averaged.cpu())
    standardise(trained.averaged, pictures.pixels[:512])
    return trained.averaged


@torch.no_grad()
def reconstructions(vae: AutoencoderKL, pixels: np.ndarray) -> Image.Image:
    """uint8 ``pixels`` [n, s, s, 3] side by side, with their reconstructions below."""
    with autocast(vae.device):
        decoded = vae.decode(vae.encode(to_pixels(pixels).to(vae.device)).latent_dist.mean).sample
    shown = ((decoded.float().clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).cpu().numpy()
    return Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in (pixels, shown)]))


def _reconstruction(decoded: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Weighted absolute error of pixels, and of their differences to the right and below, which keeps edges sharp."""
    error = decoded - pixels
    right, below = error[..., :, 1:] - error[..., :, :-1], error[..., 1:, :] - error[..., :-1, :]
    terms = ((error, weights, 1.0), (right, weights[..., 1:], 0.5), (below, weights[..., 1:, :], 0.5))
    total = sum((share * (e.abs() * w).mean() for e, w, share in terms), start=torch.zeros((), device=error.device))
    return total / weights.mean()
