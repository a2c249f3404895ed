"""This project's RealCustom: `benchmarks.peers.denoiser.Denoiser` over a scene.

A subject's vision tokens are computed once a character, so they are there before the clock starts; the keys and values
of text and vision are computed once a picture, and count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.denoiser import Denoiser
from benchmarks.peers.scene import Implementation, Scene, denoise, share_weights
from components.config import GuidanceConfig
from components.model.subjects import SubjectBatch


class Ours:
    """Draws ``scene`` with masks found as ``guidance`` says."""

    def __init__(self, scene: Scene, guidance: GuidanceConfig) -> None:
        self.scene, self.guidance, self.unet = scene, guidance, share_weights(scene.unet)
        scene.adapter.attach(self.unet)
        with torch.no_grad():
            self._no_subject = scene.adapter(scene.absent)[0]
            self._subject = SubjectBatch(
                tokens=scene.adapter(scene.reference),
                words=scene.words,
                strength=torch.ones(len(scene.noise)).to(scene.noise),
                gain=None,
                mask=None,
            )

    def predictor(self) -> Denoiser:
        """A fresh denoiser, which remembers nothing of an earlier picture."""
        scene = self.scene
        return Denoiser(
            self.unet,
            scene.negative + scene.prompt,
            scene.time_ids.repeat(2, 1),
            scene.size,
            scene.guidance_scale,
            [self._subject],
            self._no_subject,
            self.guidance,
        )

    def run(self, steps: int) -> Tensor:
        return denoise(self.scene, self.predictor(), steps)


def exact(guidance: GuidanceConfig) -> GuidanceConfig:
    """The authors' schedule with ``guidance``'s scope and steps: a text-only pass, all cross-attention layers."""
    authors: dict[str, Any] = {"source": "separate", "layers": (), "self_attention": False, "absent": "all"}
    return guidance.model_copy(update=authors)


def ours(name: str, scene: Scene, guidance: GuidanceConfig) -> Implementation:
    """Our own implementation. The projector is no part of what a picture needs."""
    predictor = Ours(scene, guidance)
    return Implementation(name, predictor.run, (scene.unet, scene.adapter.layers))
