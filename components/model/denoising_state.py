"""`DenoisingState`: where pictures are on their way from noise, with a scheduler of their own."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from components.model.batched_denoiser import StepInput
from components.model.prompt_conditioning import PromptConditioning


class DenoisingState:
    """b pictures between noise and latents: ``while not done``, predict the noise of `turn` and `take` it.

    Args:
        sketch: what they are drawn from.
        scheduler: any of diffusers, its timesteps set; nobody else may step it meanwhile.
        latents: pure noise [b, 4, h, w], scaled to the scheduler's first step.
        generator: of the noise that some schedulers add in every step, one or one a picture.
        eta: of schedulers that take one.
    """

    def __init__(
        self,
        sketch: PromptConditioning,
        scheduler: Any,
        latents: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float = 0.0,
    ) -> None:
        self.sketch, self.scheduler, self.latents = sketch, scheduler, latents
        self.step = 0
        #: Influence masks of every step so far, each [b, s, H, W]; empty without subjects.
        self.history: list[Tensor] = []
        accepted = inspect.signature(scheduler.step).parameters
        self._extra = {k: v for k, v in {"eta": eta, "generator": generator}.items() if k in accepted}

    @property
    def total(self) -> int:
        """U-Net calls from noise to picture: the scheduler's timesteps, which may be more than the steps asked for."""
        return len(self.scheduler.timesteps)

    @property
    def done(self) -> bool:
        return self.step >= self.total

    @property
    def timestep(self) -> Tensor:
        """Of the next step."""
        timestep: Tensor = self.scheduler.timesteps[self.step]
        return timestep

    def turn(self) -> StepInput:
        """What the next U-Net call needs."""
        latents = self.scheduler.scale_model_input(self.latents, self.timestep)
        return StepInput(self.sketch, latents, self.timestep, self.step)

    def take(self, prediction: Tensor) -> None:
        """One step nearer, by the ``prediction`` [b, 4, h, w] of `turn`."""
        self.latents = self.scheduler.step(prediction, self.timestep, self.latents, **self._extra, return_dict=False)[0]
        if self.sketch.masks is not None:
            self.history.append(self.sketch.masks)
        self.step += 1
