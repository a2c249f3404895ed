"""The miniature's autoencoder, trained by reconstruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from components.model.miniature import build_vae
from components.precision import autocast
from components.pretraining.loop import Schedule, fit


def to_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [b, h, w, 3] to float [b, 3, h, w] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(pictures: np.ndarray, schedule: Schedule, checkpoint: Path) -> AutoencoderKL:
    """Fit the autoencoder to uint8 ``pictures`` [n, h, w, 3]; each latent channel has zero mean and unit deviation."""
    torch.manual_seed(schedule.seed)
    vae = build_vae()

    def loss_of(generator: torch.Generator) -> Tensor:
        pixels = _draw(pictures, schedule.batch_size, generator)
        with autocast(torch.device("cpu")):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample(generator)).sample
        kl = (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean() / 2
        return _reconstruction_loss(decoded.float(), pixels) + 1e-4 * kl

    trained = fit(vae, loss_of, schedule, checkpoint)
    assert isinstance(trained, AutoencoderKL)
    standardise(trained, pictures[:1024])
    return trained


@torch.no_grad()
def standardise(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """Fold the mean and deviation of each latent channel over ``pictures`` into the convolutions around the latents.

    Reconstructions do not change, and no offset of a channel leaks through SDXL's noise schedule, whose terminal SNR is
    not zero.
    """
    latents = encode(vae, pictures, scaled=False)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    quant.weight[:count] /= std.view(-1, 1, 1, 1)
    quant.bias[:count] = (quant.bias[:count] - mean) / std
    quant.bias[count:] -= 2 * std.log()
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(1)
    post.weight *= std.view(1, -1, 1, 1)


def refine_decoder(vae: AutoencoderKL, pictures: np.ndarray, schedule: Schedule, checkpoint: Path) -> AutoencoderKL:
    """Train the decoder further; the latents do not change, so a U-Net can be trained on them at the same time."""
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)

    def loss_of(generator: torch.Generator) -> Tensor:
        pixels = _draw(pictures, schedule.batch_size, generator)
        with autocast(torch.device("cpu")):
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.mean
            # Noise, since latents from a U-Net are never exact.
            latents = latents + 0.05 * torch.randn(latents.shape, generator=generator)
            decoded = vae.decode(latents).sample
        return _reconstruction_loss(decoded.float(), pixels)

    trained = fit(vae, loss_of, schedule, checkpoint)
    assert isinstance(trained, AutoencoderKL)
    return trained


def _draw(pictures: np.ndarray, count: int, generator: torch.Generator) -> Tensor:
    return to_pixels(pictures[torch.randint(len(pictures), (count,), generator=generator).numpy()])


def _reconstruction_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Mean absolute error of pixels, and half as much of their differences, which keeps edges sharp."""
    return (decoded - pixels).abs().mean() + 0.5 * _edges(decoded).sub(_edges(pixels)).abs().mean()


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, scaled: bool = True, batch: int = 128) -> Tensor:
    """Posterior means of uint8 ``pictures``, [n, 4, h/4, w/4], times the scaling factor if ``scaled``."""
    factor = vae.config.scaling_factor if scaled else 1.0
    chunks = [vae.encode(to_pixels(pictures[i : i + batch])).latent_dist.mean for i in range(0, len(pictures), batch)]
    return torch.cat(chunks) * factor


def _edges(pixels: Tensor) -> Tensor:
    """Differences between neighbouring pixels to the right and below, [b, 6, h - 1, w - 1]."""
    right = pixels[..., :-1, 1:] - pixels[..., :-1, :-1]
    below = pixels[..., 1:, :-1] - pixels[..., :-1, :-1]
    return torch.cat([right, below], dim=1)
