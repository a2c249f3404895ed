"""`DenoisingState`: latents between noise and image, with a scheduler of their own."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from components.model.batched_denoiser import StepInput
from components.model.prompt_conditioning import PromptConditioning


class DenoisingState:
    """The state of b images that are being denoised: until `done`, predict the noise of `step_input` and `advance`.

    Args:
        conditioning: text and subjects of the images.
        scheduler: a diffusers scheduler with its timesteps set, stepped by this state alone.
        latents: noise [b, 4, h, w], scaled to the scheduler's first step.
        generator: of the noise that some schedulers add in every step; one, or one an image.
        eta: of schedulers with that parameter.
    """

    def __init__(
        self,
        conditioning: PromptConditioning,
        scheduler: Any,
        latents: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float = 0.0,
    ) -> None:
        self.conditioning, self.scheduler, self.latents = conditioning, scheduler, latents
        #: Number of steps that are done.
        self.step = 0
        #: Influence masks of every step so far, each [b, s, H, W]; empty without subjects.
        self.mask_history: list[Tensor] = []
        accepted = inspect.signature(scheduler.step).parameters
        self._step_kwargs = {k: v for k, v in {"eta": eta, "generator": generator}.items() if k in accepted}

    @property
    def total(self) -> int:
        """Number of steps, the scheduler's timesteps: second-order schedulers have more than were requested."""
        return len(self.scheduler.timesteps)

    @property
    def done(self) -> bool:
        return self.step >= self.total

    @property
    def timestep(self) -> Tensor:
        """The timestep of the next step."""
        timestep: Tensor = self.scheduler.timesteps[self.step]
        return timestep

    def step_input(self) -> StepInput:
        """The input of the next U-Net call."""
        latents = self.scheduler.scale_model_input(self.latents, self.timestep)
        return StepInput(self.conditioning, latents, self.timestep, self.step)

    def advance(self, prediction: Tensor) -> None:
        """Make one scheduler step with the ``prediction`` [b, 4, h, w] of `step_input`."""
        stepped = self.scheduler.step(prediction, self.timestep, self.latents, **self._step_kwargs, return_dict=False)
        self.latents = stepped[0]
        if self.conditioning.masks is not None:
            self.mask_history.append(self.conditioning.masks)
        self.step += 1
