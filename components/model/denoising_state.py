"""`DenoisingState`: latents between noise and image, with a scheduler of their own."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from components.model.batched_denoiser import StepInput
from components.model.prompt_conditioning import PromptConditioning
from components.model.redraw import LatentBlend, Redraw


class DenoisingState:
    """The state of b images that are being denoised: until `done`, predict the noise of `step_input` and `advance`.

    Args:
        conditioning: text and subjects of the images.
        scheduler: a diffusers scheduler with its timesteps set, stepped by this state alone.
        latents: noise [b, 4, h, w], scaled to the scheduler's first step.
        generator: of the noise that some schedulers add in every step; one, or one an image.
        eta: of schedulers with that parameter.
        first: index of the scheduler's timestep at which denoising begins.
        redraw: the pictures that are redrawn, if any.
        blend: keeps the latents outside their mask.
    """

    def __init__(
        self,
        conditioning: PromptConditioning,
        scheduler: Any,
        latents: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float = 0.0,
        first: int = 0,
        redraw: Redraw | None = None,
        blend: LatentBlend | None = None,
    ) -> None:
        self.conditioning, self.scheduler, self.latents = conditioning, scheduler, latents
        self.redraw, self._first, self._blend = redraw, first, blend
        #: Number of steps that are done.
        self.step = 0
        #: Influence masks of every step so far, each [b, s, H, W]; empty without subjects.
        self.mask_history: list[Tensor] = []
        accepted = inspect.signature(scheduler.step).parameters
        self._step_kwargs = {k: v for k, v in {"eta": eta, "generator": generator}.items() if k in accepted}

    @property
    def total(self) -> int:
        """Number of steps, the scheduler's timesteps: second-order schedulers have more than were requested."""
        return len(self.scheduler.timesteps) - self._first

    @property
    def done(self) -> bool:
        return self.step >= self.total

    @property
    def timestep(self) -> Tensor:
        """The timestep of the next step."""
        timestep: Tensor = self.scheduler.timesteps[self._first + self.step]
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
        if self._blend is not None:
            self.latents = self._blend(self.latents, self.scheduler, None if self.done else self.timestep)
