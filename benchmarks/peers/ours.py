"""This project's implementation of RealCustom: `benchmarks.peers.denoiser.Denoiser`.

The vision tokens are computed once per character, so outside the timed part; the keys and values of text and vision
tokens are computed once per image, within it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.denoiser import Denoiser
from benchmarks.peers.inputs import DenoisingInputs, Implementation, denoise, share_weights
from components.config import GuidanceConfig
from components.model.subjects import SubjectBatch


class Ours:
    """Denoises ``inputs`` with influence masks according to ``guidance``."""

    def __init__(self, inputs: DenoisingInputs, guidance: GuidanceConfig) -> None:
        self.inputs, self.guidance, self.unet = inputs, guidance, share_weights(inputs.unet)
        inputs.adapter.attach(self.unet)
        with torch.no_grad():
            self._no_subject = inputs.adapter(inputs.absent)[0]
            self._subject = SubjectBatch(
                tokens=tuple(inputs.adapter(inputs.reference)),
                words=inputs.words,
                strength=torch.ones(len(inputs.noise)).to(inputs.noise),
                gain=None,
                mask=None,
            )

    def predictor(self) -> Denoiser:
        """A new denoiser, without the masks and keys and values of an earlier image."""
        inputs = self.inputs
        return Denoiser(
            self.unet,
            inputs.negative + inputs.prompt,
            inputs.time_ids.repeat(2, 1),
            inputs.size,
            inputs.guidance_scale,
            [self._subject],
            self._no_subject,
            self.guidance,
        )

    def run(self, steps: int) -> Tensor:
        return denoise(self.inputs, self.predictor(), steps)


def exact(guidance: GuidanceConfig) -> GuidanceConfig:
    """The paper's mask schedule with ``guidance``'s scope and steps: a text-only pass, all cross-attention layers."""
    authors: dict[str, Any] = {"source": "separate", "layers": (), "self_attention": False, "absent": "all"}
    return guidance.model_copy(update=authors)


def ours(name: str, inputs: DenoisingInputs, guidance: GuidanceConfig) -> Implementation:
    """This project's implementation. Its weights exclude the projector, which runs once per character."""
    predictor = Ours(inputs, guidance)
    return Implementation(name, predictor.run, (inputs.unet, inputs.adapter.layers))
