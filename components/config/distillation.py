"""Distillation of a base model for few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from components.config.section import Section


class DistillationConfig(Section):
    """Consistency distillation of the base model to an LCM-LoRA, on images of the toy world."""

    output: Path = Path("runs/distillation")
    """Directory of ``pytorch_lora_weights.safetensors``, which diffusers' `load_lora_weights` reads."""
    work: Path = Path("runs/distillation-state")
    """Directory of latents and training state, from which a killed run resumes."""
    target: Literal["end", "neighbour"] = "end"
    """What the student is made consistent with. ``end``: the sample that the teacher's trajectory ends at, sampled
    once before training. ``neighbour``: its own prediction one timestep further along the teacher's trajectory, as in
    latent consistency distillation; needs no trajectories, but thousands of steps."""
    scenes: int = Field(2000, ge=16)
    """Number of scenes of the toy world, whose captions (``end``) or images with captions (``neighbour``) are used."""
    trajectories: int = Field(256, ge=1)
    """Number of the teacher's trajectories with ``target=end``."""
    steps: int = Field(300, ge=1)
    """Number of optimizer steps."""
    batch_size: int = Field(16, ge=1)
    """Latents of a step."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate; it warms up over `warmup` steps and decays along a cosine. With ``target=neighbour`` 1e-3 is
    too high: the student runs away from its teacher."""
    warmup: int = Field(20, ge=0)
    """Steps of linear warm-up."""
    rank: int = Field(8, ge=1)
    """Rank of the LoRA layers."""
    guidance_min: float = Field(3.5, ge=1)
    """Smallest guidance scale of the teacher. The student learns to need no guidance: it reproduces the teacher's."""
    guidance_max: float = Field(3.5, ge=1)
    """Largest guidance scale of the teacher. The student is not told which one was drawn, so a range blurs it."""
    grid_steps: int = Field(10, ge=2)
    """Number of timesteps that the student is trained at: the teacher's steps on a trajectory (``end``, of second
    order) or the grid between whose neighbours it makes one DDIM step (``neighbour``, where 25 to 50 are usual)."""
    huber: float = Field(1e-2, gt=0)
    """Errors below this count by their square, those above by their size (pseudo-Huber loss)."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the LoRA, which is what is saved."""
    threads: int = Field(1, ge=1)
    """Number of torch threads."""
    seed: int = Field(0, ge=0)
    """Seed of scenes, initialisation, noise and timesteps."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between two saved states; the distance to the teacher's images is measured as often."""
    checked: int = Field(16, ge=1)
    """Captions on which the distance to the teacher's images is measured."""

    @model_validator(mode="after")
    def _guidance_is_a_range(self) -> DistillationConfig:
        if self.guidance_max < self.guidance_min:
            raise ValueError("guidance_max must be at least guidance_min")
        return self
