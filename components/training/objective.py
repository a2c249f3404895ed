"""The training objective: noise-prediction error of the U-Net with the vision branch, everything else frozen.

Paper section 3.4. In training the influence mask is 1 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from components.config import TrainingConfig
from components.model.adapter import RealCustomAdapter
from components.model.attention import SubjectContext
from components.model.vision import VisionFeatures
from components.training.curriculum import choose_multi_view


@dataclass(frozen=True)
class Absent:
    """What stands for "nothing given": features of a black reference and of an empty prompt, one row each."""

    vision: VisionFeatures
    text_tokens: Tensor
    text_pooled: Tensor


@dataclass(frozen=True)
class Example:
    """A batch as the U-Net takes it; reference features [b, n, d] / [b, 4 n, d]."""

    latents: Tensor
    text_tokens: Tensor
    text_pooled: Tensor
    time_ids: Tensor
    reference: VisionFeatures


class SubjectDenoiser(nn.Module):
    """Adapter and frozen U-Net as one module, so that distributed wrappers see one forward pass."""

    def __init__(self, unet: UNet2DConditionModel, adapter: RealCustomAdapter) -> None:
        super().__init__()
        self.unet, self.adapter = unet.requires_grad_(False).eval(), adapter
        adapter.attach(unet)

    def forward(self, noisy: Tensor, timesteps: Tensor, example: Example) -> Tensor:
        """Predict from ``noisy`` latents [b, 4, h, w] at ``timesteps`` [b]."""
        context = SubjectContext((noisy.shape[-2], noisy.shape[-1]), tokens=self.adapter(example.reference))
        predicted: Tensor = self.unet(
            noisy,
            timesteps,
            example.text_tokens,
            added_cond_kwargs={"text_embeds": example.text_pooled, "time_ids": example.time_ids},
            cross_attention_kwargs={"subject": context},
            return_dict=False,
        )[0]
        return predicted


def draw_example(
    rows: dict[str, Tensor], absent: Absent, config: TrainingConfig, progress: float, generator: torch.Generator
) -> Example:
    """Choose references by the curriculum, and drop references and captions by chance.

    Args:
        rows: columns of the prepared dataset, stacked.
        progress: share of the training that is done, in [0, 1].
    """
    count = len(rows["latents"])
    other = choose_multi_view(count, progress, config.curriculum, generator)
    blind = torch.rand(count, generator=generator) < config.condition_dropout
    mute = torch.rand(count, generator=generator) < config.text_dropout

    def reference(name: str, missing: Tensor) -> Tensor:
        chosen = torch.where(_rows(other, 3), rows[f"other_{name}"].float(), rows[name].float())
        return torch.where(_rows(blind, 3), missing, chosen)

    return Example(
        latents=rows["latents"].float(),
        text_tokens=torch.where(_rows(mute, 3), absent.text_tokens, rows["text_tokens"].float()),
        text_pooled=torch.where(_rows(mute, 2), absent.text_pooled, rows["text_pooled"].float()),
        time_ids=rows["time_ids"].float(),
        reference=VisionFeatures(reference("deep", absent.vision.deep), reference("local", absent.vision.local)),
    )


def diffusion_loss(
    denoiser: nn.Module, example: Example, scheduler: DDPMScheduler, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Mean squared error of the prediction (of noise, or of v where the base predicts v); a scalar.

    Noise and timesteps come from a CPU ``generator``, so that a step means the same on every device.
    """
    clean = example.latents
    noise = torch.randn(clean.shape, generator=generator)
    steps = scheduler.config.num_train_timesteps
    spread = (torch.arange(len(clean)) + torch.rand(len(clean), generator=generator)) / len(clean)
    timesteps = (spread * steps).long()
    noisy = scheduler.add_noise(clean, noise, timesteps)
    v_prediction = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, timesteps) if v_prediction else noise
    predicted = denoiser(noisy.to(device), timesteps.to(device), _to(example, device))
    return F.mse_loss(predicted.float(), target.to(device))


def _rows(flags: Tensor, dimensions: int) -> Tensor:
    return flags.view(-1, *[1] * (dimensions - 1))


def _to(example: Example, device: torch.device) -> Example:
    reference = VisionFeatures(example.reference.deep.to(device), example.reference.local.to(device))
    return Example(
        latents=example.latents.to(device),
        text_tokens=example.text_tokens.to(device),
        text_pooled=example.text_pooled.to(device),
        time_ids=example.time_ids.to(device),
        reference=reference,
    )
