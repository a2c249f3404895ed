"""The noise prediction of images that are generated alone: a batch of one request.

In the first `MaskGuidance.steps` steps the influence masks are found, in a text-only pass (paper section 3.3) or from
what the guided pass of the step before attended to. Everything that does not change between steps is computed once:
vision and text keys and values.
"""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from components.model.batched_denoiser import BatchedDenoiser, StepInput
from components.model.prompt_conditioning import PromptConditioning


class Denoiser(PromptConditioning):
    """A `PromptConditioning` with a U-Net of its own.

    Args:
        unet: with a `RealCustomAdapter` attached, if there are subjects.
        conditioning: arguments of `PromptConditioning`.
    """

    def __init__(self, unet: UNet2DConditionModel, *conditioning: Any, **named: Any) -> None:
        super().__init__(*conditioning, **named)
        self._denoiser = BatchedDenoiser(unet)

    def __call__(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """Predict the guided noise (or v) [b, 4, h, w].

        Args:
            latents: [b, 4, h, w], scaled as the scheduler wants the model's input.
            timestep: of the noise schedule, a scalar or [b].
            step: counts from 0.
        """
        return self._denoiser([StepInput(self, latents, timestep, step)])[0]
