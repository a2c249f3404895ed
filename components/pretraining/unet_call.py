"""One U-Net call of a training whose text features are computed beforehand, and its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from components.model.text import TextFeatures, size_conditioning
from components.precision import autocast
from components.pretraining.world_latents import CaptionedLatents
from components.training.timesteps import stratified_timesteps

#: Share of rows that are trained without their caption, for classifier-free guidance.
CAPTION_DROPOUT = 0.1
#: (rows [b], latents, timesteps, text) -> further arguments of the U-Net.
Residuals = Callable[[Tensor, Tensor, Tensor, TextFeatures], dict[str, Any]]


def conditions(text: TextFeatures, size: int, count: int) -> dict[str, Any]:
    """The arguments of a U-Net or ControlNet that say what ``count`` images of ``size`` pixels show."""
    time_ids = size_conditioning((size, size), (0, 0), (size, size), count)
    return {
        "encoder_hidden_states": text.tokens,
        "added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": time_ids},
    }


def predict(
    unet: UNet2DConditionModel, latents: Tensor, timesteps: Tensor, text: TextFeatures, size: int, **more: Any
) -> Tensor:
    """The U-Net's prediction [b, 4, h, w] in float32."""
    with autocast(latents.device):
        predicted: Tensor = unet(latents, timesteps, **conditions(text, size, len(latents)), **more, return_dict=False)[
            0
        ]
    return predicted.float()


def captioned_loss(
    unet: UNet2DConditionModel,
    data: CaptionedLatents,
    scheduler: DDPMScheduler,
    size: int,
    batch_size: int,
    residuals: Residuals | None = None,
) -> Callable[[torch.Generator], Tensor]:
    """The loss of a step: the error of the noise, or of v, on ``batch_size`` random rows of ``data``.

    Args:
        scheduler: of the base; its prediction type says what is predicted.
        residuals: gives the U-Net further arguments for the rows, such as those of a ControlNet.
    """
    predicts_v = scheduler.config.prediction_type == "v_prediction"

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data.latents), (batch_size,), generator=generator)
        clean = data.latents[rows].float()
        dropped = torch.rand(batch_size, generator=generator) < CAPTION_DROPOUT
        text = data.features(torch.where(dropped, -1, data.captions[rows]))
        noise = torch.randn(clean.shape, generator=generator)
        uniform = torch.rand(batch_size, generator=generator)
        timesteps = stratified_timesteps(uniform, scheduler.config.num_train_timesteps)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        more = {} if residuals is None else residuals(rows, noisy, timesteps, text)
        predicted = predict(unet, noisy, timesteps, text, size, **more)
        return F.mse_loss(predicted, scheduler.get_velocity(clean, noise, timesteps) if predicts_v else noise)

    return loss_of
