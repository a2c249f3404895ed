"""Redrawing a picture (image-to-image) or the masked part of it (inpainting), as diffusers' SDXL pipelines do it.

Denoising begins at the step that ``strength`` names, with the picture's latents and the noise of that step. With a
mask, every step puts the picture's own latents back outside it, and `Redraw.compose` the picture's own pixels.

Shapes: b images, (h, w) latents, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from components.errors import DataError
from components.model.memory import upcast_autoencoder

#: A picture of all prompts, or one a prompt; tensors are [b, 3, H, W] in [0, 1].
Pictures = Image.Image | Tensor | Sequence[Image.Image]
Generators = torch.Generator | list[torch.Generator] | None


class EmptyMaskError(DataError, ValueError):
    """A mask covers no latent, so that nothing would be redrawn."""


@dataclass(frozen=True, eq=False)
class Redraw:
    """Pictures that are redrawn.

    Args:
        pixels: [b, 3, H, W] in [-1, 1], float32.
        latents: theirs, [b, 4, h, w], scaled.
        mask: [b, 1, H, W], 1 where they are redrawn; None redraws all of them.
    """

    pixels: Tensor
    latents: Tensor
    mask: Tensor | None

    @property
    def latent_mask(self) -> Tensor | None:
        """The mask at the latents' size (nearest neighbour, as diffusers resizes it), [b, 1, h, w]."""
        if self.mask is None:
            return None
        return F.interpolate(self.mask, self.latents.shape[-2:]).to(self.latents)

    def region(self, size: tuple[int, int]) -> Tensor:
        """Where subjects may act: bool [b, 1, *size], true where any pixel is masked."""
        assert self.mask is not None
        return F.adaptive_max_pool2d(self.mask, size) > 0.5

    def compose(self, decoded: Tensor) -> Tensor:
        """``decoded`` [b, 3, H, W] inside the mask, and the very pixels of the pictures outside."""
        if self.mask is None:
            return decoded
        return torch.where(self.mask > 0.5, decoded.float(), self.pixels)


class LatentBlend:
    """Keeps the latents outside a mask those of the picture, noised for the step that follows.

    Args:
        noise: [b, 4, h, w], of the whole run.
    """

    def __init__(self, redraw: Redraw, noise: Tensor) -> None:
        mask = redraw.latent_mask
        assert mask is not None
        self._picture, self._noise, self._mask = redraw.latents, noise, mask

    def __call__(self, latents: Tensor, scheduler: Any, timestep: Tensor | None) -> Tensor:
        """The latents after a step; ``timestep`` is the next one, None after the last."""
        kept = self._picture
        if timestep is not None:
            kept = scheduler.add_noise(kept, self._noise, timestep[None])
        return (1 - self._mask) * kept + self._mask * latents


def made_steps(steps: int, strength: float) -> int:
    """How many of ``steps`` are made; ``strength`` is the share of them."""
    return min(int(steps * strength), steps)


def first_step(steps: int, strength: float) -> int:
    """The step at which denoising begins, of ``steps``; ``strength`` is the share of them that is made.

    Raises:
        ValueError: no step is left.
    """
    made = made_steps(steps, strength)
    if made < 1:
        raise ValueError(f"strength: {strength} of {steps} steps is no step; raise it, or the number of steps")
    return steps - made


def prepare_redraw(
    pipeline: StableDiffusionXLPipeline,
    image: Pictures,
    mask: Pictures | None,
    size: tuple[int, int],
    count: int,
    generator: Generators,
) -> Redraw:
    """Encode pictures, which are resized to ``size`` (height, width), for ``count`` prompts.

    Raises:
        ValueError: pictures or masks do not match the prompts.
        EmptyMaskError: a mask covers no latent.
    """
    device = pipeline._execution_device
    pixels = _repeated(pipeline.image_processor.preprocess(image, *size), count, "image").to(device, torch.float32)
    latents = encode_latents(pipeline.vae, pixels, generator).to(pipeline.unet.dtype)
    if mask is None:
        return Redraw(pixels, latents, None)
    binary = VaeImageProcessor(
        vae_scale_factor=pipeline.vae_scale_factor, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    masks = _repeated(binary.preprocess(mask, *size), count, "mask_image").to(device, torch.float32)
    redraw = Redraw(pixels, latents.contiguous(), masks)
    assert redraw.latent_mask is not None
    if not redraw.latent_mask.flatten(1).any(1).all():
        side = pipeline.vae_scale_factor
        remedy = f"mark a larger part of the picture, at least {side}x{side} pixels"
        raise EmptyMaskError(f"mask_image: it covers no latent; {remedy}")
    return redraw


def encode_latents(vae: AutoencoderKL, pixels: Tensor, generator: Generators = None) -> Tensor:
    """Scaled latents [b, 4, h, w], sampled from the autoencoder's posterior, of ``pixels`` [b, 3, H, W] in [-1, 1]."""
    upcast_autoencoder(vae)
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    if isinstance(generator, list):
        mean, std = posterior.mean, posterior.std
        noise = [randn_tensor(mean[:1].shape, each, mean.device, mean.dtype) for each in generator]
        sampled = mean + std * torch.cat(noise)
    else:
        sampled = posterior.sample(generator)
    shift, spread = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if shift is not None and spread is not None:
        shift, spread = (torch.tensor(values).view(1, -1, 1, 1).to(sampled) for values in (shift, spread))
        return (sampled - shift) * vae.config.scaling_factor / spread
    scaled: Tensor = sampled * vae.config.scaling_factor
    return scaled


def start_latents(redraw: Redraw, noise: Tensor, scheduler: Any, first: int, strength: float) -> Tensor:
    """The latents at the step ``first``, from which on the scheduler is set to go."""
    if redraw.mask is not None and strength == 1:  # as diffusers' inpainting: nothing of the picture below the noise
        pure: Tensor = noise * scheduler.init_noise_sigma
        return pure
    timestep = scheduler.timesteps[first : first + 1].repeat(len(noise))
    noised: Tensor = scheduler.add_noise(redraw.latents, noise, timestep)
    return noised


def _repeated(pictures: Tensor, count: int, name: str) -> Tensor:
    if len(pictures) not in (1, count):
        raise ValueError(f"{name}: {len(pictures)} for {count} prompts")
    return pictures.expand(count, -1, -1, -1) if len(pictures) == 1 else pictures
