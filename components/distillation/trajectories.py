"""Trajectories of the teacher: the latents of every step on its way from noise to a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.checkpoint import step_generator
from components.distillation.consistency import pseudo_huber
from components.distillation.teacher_student import TeacherStudent
from components.model.text import TextFeatures
from components.precision import autocast
from components.progress import track
from components.training.timesteps import stratified_timesteps

_BATCH = 32


@dataclass(frozen=True)
class Trajectories:
    """The teacher's guided trajectories.

    Args:
        timesteps: int64 [s], from the noisiest on.
        latents: at the timesteps, [n, s, 4, h, w].
        samples: where the trajectories end, [n, 4, h, w].
        captions: index [n] of each trajectory's caption.
    """

    timesteps: Tensor
    latents: Tensor
    samples: Tensor
    captions: Tensor


@dataclass(frozen=True)
class TrajectorySettings:
    """How trajectories are sampled: the number of steps, the range of guidance scales, and the seed."""

    steps: int
    guidance: tuple[float, float]
    seed: int


def sample_trajectories(
    pipeline: StableDiffusionXLPipeline, captions: Tensor, text: TextFeatures, settings: TrajectorySettings, file: Path
) -> Trajectories:
    """Sample one trajectory from each caption's noise with diffusers' pipeline, or read them from ``file``.

    Second-order DPM-Solver++ on trailing timesteps: the first one is pure noise, with which sampling starts.

    Args:
        captions: index [n] of each trajectory's caption in ``text``, whose last row is the empty caption.
    """
    if not file.exists():
        scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
        pipeline.scheduler = scheduler
        pipeline.set_progress_bar_config(disable=True)
        parts = []
        for start in track(range(0, len(captions), _BATCH), "trajectories"):
            rows = captions[start : start + _BATCH]
            noise = step_generator(settings.seed, 1, start)
            parts.append(_sample(pipeline, text, rows, settings, noise))
        latents, samples = (torch.cat(part) for part in zip(*parts, strict=True))
        tensors = {"timesteps": scheduler.timesteps, "latents": latents, "samples": samples, "captions": captions}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return Trajectories(**load_file(file))


def end_loss(
    models: TeacherStudent, data: Trajectories, text: TextFeatures, batch_size: int, huber: float
) -> Callable[[torch.Generator], Tensor]:
    """The loss of a step: the distance of the student's predictions from the ends of the teacher's trajectories.

    It is the consistency loss with the trajectory's end as the second timestep, where the consistency function is the
    identity: the target does not move, so that the learning rate may be high.
    """

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data.samples), (batch_size,), generator=generator)
        uniform = torch.rand(batch_size, generator=generator)
        places = stratified_timesteps(uniform, len(data.timesteps))
        captions = data.captions[rows]
        features = TextFeatures(text.tokens[captions], text.pooled[captions])
        predicted = models.student(data.latents[rows, places].float(), data.timesteps[places], features)
        return pseudo_huber(predicted, data.samples[rows], huber)

    return loss_of


def _sample(
    pipeline: StableDiffusionXLPipeline,
    text: TextFeatures,
    captions: Tensor,
    settings: TrajectorySettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The latents [b, s, 4, h, w] at every timestep, and the samples [b, 4, h, w]."""
    side = pipeline.unet.config.sample_size
    noise = torch.randn(len(captions), pipeline.unet.config.in_channels, side, side, generator=generator)
    lowest, highest = settings.guidance
    scale = lowest + (highest - lowest) * float(torch.rand((), generator=generator))
    steps = [noise]

    def keep(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(tensors["latents"])
        return tensors

    empty = torch.full((len(captions),), -1)
    with autocast(noise.device):
        pipeline(
            prompt_embeds=text.tokens[captions],
            pooled_prompt_embeds=text.pooled[captions],
            negative_prompt_embeds=text.tokens[empty],
            negative_pooled_prompt_embeds=text.pooled[empty],
            num_inference_steps=settings.steps,
            guidance_scale=scale,
            latents=noise,
            output_type="latent",
            callback_on_step_end=keep,
        )
    return torch.stack(steps[:-1], dim=1), steps[-1].float()
