"""How the frozen parts lie in memory: precision of the autoencoder, tiles and slices, memory format, TF32."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from components.config import ModelConfig


def apply_memory_settings(pipeline: StableDiffusionXLPipeline, config: ModelConfig) -> None:
    """Set what ``config`` says on a pipeline in its precision; TF32 is a setting of the whole process."""
    upcast_autoencoder(pipeline.vae)
    if config.vae_tiling:
        pipeline.vae.enable_tiling()
    if config.vae_slicing:
        pipeline.vae.enable_slicing()
    if config.channels_last:
        for part in (pipeline.unet, pipeline.vae):
            part.to(memory_format=torch.channels_last)
    if config.tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def upcast_autoencoder(vae: Any) -> None:
    """Keep an autoencoder that overflows in float16 (``force_upcast``) in float32: SDXL's would decode black images.

    diffusers casts it for every image and back. It stays in float32 here, for images are decoded beside other work.
    """
    if vae.dtype == torch.float16 and vae.config.force_upcast:
        vae.to(dtype=torch.float32)


def unscaled_latents(vae: Any, latents: Tensor) -> Tensor:
    """The autoencoder's own latents, in its precision, of the U-Net's scaled ones [b, c, h, w]."""
    latents = latents.to(vae.dtype)
    mean, std = vae.config.latents_mean, vae.config.latents_std
    if mean is None or std is None:
        return latents / vae.config.scaling_factor
    shape = (1, -1, 1, 1)
    mean, std = (latents.new_tensor(each).view(shape) for each in (mean, std))
    return latents * std / vae.config.scaling_factor + mean
