"""`distill`: consistency distillation of the base model to an LCM-LoRA, resumable."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from components.checkpoint import step_generator
from components.config import Config, DistillationConfig
from components.distillation.consistency import NoiseLevels
from components.distillation.teacher_student import TeacherStudent, distillation_loss
from components.distillation.trajectories import Trajectories, TrajectorySettings, end_loss, sample_trajectories
from components.errors import ConfigError
from components.files import adding_files
from components.model.base_model import load_base
from components.pretraining.loop import Schedule, fit_until
from components.pretraining.lora import LORA_FILE, LoraLayers, save_lora
from components.pretraining.world_latents import CaptionedLatents, world_latents

logger = logging.getLogger(__name__)
_SCENE_SEED = 3_000_000
#: Settings, and the distance to the teacher's images over the run.
REPORT = "distillation.json"


@dataclass(frozen=True)
class DistillationResult:
    """The LoRA's file, and the distance to the teacher's images by training step."""

    lora: Path
    distances: dict[int, float]


class TeacherDistance:
    """The mean squared distance of the student's one-step samples to the teacher's samples from the same noise.

    The noise and the captions are not those of the training. It falls as the student learns. The loss of
    ``target=neighbour`` does not: it compares the student with itself, and is lowest for a student whose predictions
    hardly change between timesteps, such as an untrained one.

    Args:
        held_out: trajectories that are not trained on.
    """

    def __init__(self, models: TeacherStudent, held_out: Trajectories, data: CaptionedLatents) -> None:
        self._models, self._wanted = models, held_out
        self._text = data.features(held_out.captions)

    @torch.no_grad()
    def __call__(self) -> float:
        first = self._wanted.timesteps[:1].expand(len(self._wanted.samples))
        found = self._models.student(self._wanted.latents[:, 0].float(), first, self._text)
        return float((found - self._wanted.samples).square().mean())


def distill(config: Config) -> DistillationResult:
    """Distil ``config.model.base`` by ``config.distillation``, and write the LoRA with a report of its making.

    Raises:
        ConfigError: the base predicts neither noise nor v, or the grid is finer than its timesteps.
    """
    settings = config.distillation
    torch.set_num_threads(settings.threads)
    pipeline = load_base(StableDiffusionXLPipeline, config.model, torch.float32, add_watermarker=False)
    size = pipeline.default_sample_size * pipeline.vae_scale_factor
    unet = pipeline.unet
    noise = DDPMScheduler.from_config(pipeline.scheduler.config)
    try:
        levels = NoiseLevels(noise.alphas_cumprod, noise.config.prediction_type)
        models = TeacherStudent(unet, levels, settings.grid_steps, size)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    data = world_latents(pipeline, settings.scenes, size, _SCENE_SEED + settings.seed, settings.work / "data")
    held_out = _trajectories(pipeline, data, settings, settings.checked, settings.seed + 1)
    trained_on = _trajectories(pipeline, data, settings, settings.trajectories, settings.seed)
    torch.manual_seed(settings.seed)
    lora = LoraLayers(unet, settings.rank)
    if unet.device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # its backward pass is faster there, see `prepare_attention`
    distance = TeacherDistance(models, held_out, data)
    distances = _read_distances(settings.work / REPORT)

    def after_step(averaged: nn.Module, step: int) -> None:
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            with lora.holding(averaged):
                distances[step] = distance()
            (settings.work / REPORT).write_text(json.dumps(distances))
            logger.info("step %d: distance to the teacher's images %.4f", step, distances[step])

    if settings.target == "end":
        loss_of = end_loss(models, trained_on, data.text, settings.batch_size, settings.huber)
    else:
        loss_of = distillation_loss(models, data, settings.batch_size, _guidance(settings), settings.huber)
    schedule = Schedule(
        settings.steps,
        settings.learning_rate,
        settings.batch_size,
        warmup=settings.warmup,
        ema=settings.ema,
        weight_decay=0.0,
        seed=settings.seed,
        checkpoint_every=settings.checkpoint_every,
    )
    distances.setdefault(0, distance())
    logger.info("step 0: distance to the teacher's images %.4f", distances[0])
    trained = fit_until(lora, loss_of, schedule, settings.work / "lora", after_step=after_step)
    with lora.holding(trained.averaged), adding_files(settings.output, last=LORA_FILE) as staging:
        save_lora(unet, staging)
        report = {"settings": settings.model_dump(mode="json"), "distances": distances}
        (staging / REPORT).write_text(json.dumps(report, indent=1))
    return DistillationResult(settings.output / LORA_FILE, distances)


def _trajectories(
    pipeline: StableDiffusionXLPipeline, data: CaptionedLatents, settings: DistillationConfig, count: int, seed: int
) -> Trajectories:
    """``count`` trajectories of the teacher with random captions, or those in the file of an earlier run."""
    captions = data.captions[torch.randint(len(data.captions), (count,), generator=step_generator(seed, 0))]
    how = TrajectorySettings(settings.grid_steps, _guidance(settings), seed)
    return sample_trajectories(pipeline, captions, data.text, how, settings.work / f"trajectories-{seed}.safetensors")


def _guidance(settings: DistillationConfig) -> tuple[float, float]:
    return settings.guidance_min, settings.guidance_max


def _read_distances(file: Path) -> dict[int, float]:
    file.parent.mkdir(parents=True, exist_ok=True)
    return {int(step): value for step, value in json.loads(file.read_text()).items()} if file.exists() else {}
