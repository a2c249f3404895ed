"""Noise prediction for a single request, with the denoiser of the service.

In the first `GuidanceConfig.steps` steps the influence masks are computed, from the attention maps of a text-only call
(paper section 3.3) or of the conditional rows of the previous step. The keys and values of vision and text tokens do
not change between steps and are computed once.
"""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from components.model.batched_denoiser import BatchedDenoiser, StepInput
from components.model.prompt_conditioning import PromptConditioning


class Denoiser(PromptConditioning):
    """A `PromptConditioning` that calls its own U-Net, as a batch of one request.

    Args:
        unet: with a `RealCustomAdapter` attached, if there are subjects.
        arguments, named: those of `PromptConditioning`.
    """

    def __init__(self, unet: UNet2DConditionModel, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._denoiser = BatchedDenoiser(unet)

    def __call__(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """Predict the guided noise (or v) [b, 4, h, w].

        Args:
            latents: [b, 4, h, w], scaled as the scheduler wants the model's input.
            timestep: of the noise schedule, a scalar or [b].
            step: counts from 0.
        """
        return self._denoiser([StepInput(self, latents, timestep, step)])[0]
