"""Teacher and student in one U-Net: without its LoRA it is the teacher, with it the student."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from components.distillation.consistency import (
    NoiseLevels,
    consistency_function,
    ddim_step,
    guide,
    previous_timesteps,
    pseudo_huber,
    timestep_grid,
)
from components.model.text import TextFeatures
from components.pretraining.lora import without_lora
from components.pretraining.unet_call import predict
from components.pretraining.world_latents import CaptionedLatents
from components.training.timesteps import stratified_timesteps


class TeacherStudent:
    """The predictions of a U-Net with a LoRA.

    Args:
        unet: with LoRA layers.
        levels: noise levels of the base.
        grid_steps: number of timesteps between which the student is made consistent.
        size: of the images in pixels.
    """

    def __init__(self, unet: UNet2DConditionModel, levels: NoiseLevels, grid_steps: int, size: int) -> None:
        self.unet, self.levels, self.size = unet, levels, size
        self.grid = timestep_grid(levels.steps, grid_steps)
        self.spacing = levels.steps // grid_steps

    def student(self, latents: Tensor, timesteps: Tensor, text: TextFeatures) -> Tensor:
        """The consistency function [b, 4, h, w] of ``latents``."""
        sample, _ = self.levels.split(latents, self._predict(latents, timesteps, text), timesteps)
        return consistency_function(latents, sample, timesteps)

    @torch.no_grad()
    def teacher_step(
        self, latents: Tensor, timesteps: Tensor, text: TextFeatures, empty: TextFeatures, scale: Tensor
    ) -> Tensor:
        """The latents one grid step earlier on the teacher's guided trajectory."""
        both = torch.cat([latents, latents])
        with without_lora(self.unet):
            predicted = self._predict(both, torch.cat([timesteps, timesteps]), empty + text)
        sample, noise = self.levels.split(both, predicted, torch.cat([timesteps, timesteps]))
        (empty_sample, text_sample), (empty_noise, text_noise) = sample.chunk(2), noise.chunk(2)
        guided_sample, guided_noise = guide(empty_sample, text_sample, scale), guide(empty_noise, text_noise, scale)
        return ddim_step(self.levels, guided_sample, guided_noise, previous_timesteps(timesteps, self.spacing))

    def _predict(self, latents: Tensor, timesteps: Tensor, text: TextFeatures) -> Tensor:
        return predict(self.unet, latents, timesteps, text, self.size)


def distillation_loss(
    models: TeacherStudent, data: CaptionedLatents, batch_size: int, guidance: tuple[float, float], huber: float
) -> Callable[[torch.Generator], Tensor]:
    """The loss of a step: the student's inconsistency between neighbouring timesteps of the teacher's trajectories.

    The target is the student itself without gradient, as in diffusers' script for LoRA.

    Args:
        guidance: the smallest and largest guidance scale of the teacher, drawn for each latent.
        huber: width of the pseudo-Huber loss.
    """
    lowest, highest = guidance

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data.latents), (batch_size,), generator=generator)
        text = data.features(data.captions[rows])
        empty = data.features(torch.full((batch_size,), -1))
        uniform = torch.rand(batch_size, generator=generator)
        timesteps = models.grid[stratified_timesteps(uniform, len(models.grid))]
        noise = torch.randn(data.latents[rows].shape, generator=generator)
        scale = lowest + (highest - lowest) * torch.rand(batch_size, generator=generator)
        noisy = models.levels.add_noise(data.latents[rows].float(), noise, timesteps)
        with torch.no_grad():
            previous = models.teacher_step(noisy, timesteps, text, empty, scale)
            target = models.student(previous, previous_timesteps(timesteps, models.spacing), text)
        return pseudo_huber(models.student(noisy, timesteps, text), target, huber)

    return loss_of
