"""This project's RealCustom: `benchmarks.peers.denoiser.Denoiser` over a scene.

A subject's vision tokens are computed once a character, so they are there before the clock starts; the keys and values
of text and vision are computed once a picture, and count.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.peers.denoiser import Denoiser
from benchmarks.peers.scene import Peer, Scene, denoise, twin
from components.model.guidance import MaskGuidance
from components.model.subjects import SubjectBatch


class Ours:
    """Draws ``scene`` with masks found as ``guidance`` says."""

    def __init__(self, scene: Scene, guidance: MaskGuidance) -> None:
        self.scene, self.guidance, self.unet = scene, guidance, twin(scene.unet)
        scene.adapter.attach(self.unet)
        with torch.no_grad():
            self._absent = scene.adapter(scene.absent)[0]
            self._slot = SubjectBatch(
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
            [self._slot],
            self._absent,
            self.guidance,
        )

    def run(self, steps: int) -> Tensor:
        return denoise(self.scene, self.predictor(), steps)


def exact(guidance: MaskGuidance) -> MaskGuidance:
    """The authors' schedule with ``guidance``'s scope and steps: a text-only pass, all cross-attention layers."""
    return replace(guidance, source="separate", layers=(), self_attention=False, absent="all")


def ours(name: str, scene: Scene, guidance: MaskGuidance) -> Peer:
    """Our own way as a peer. The projector is no part of what a picture needs."""
    way = Ours(scene, guidance)
    return Peer(name, way.run, (scene.unet, scene.adapter.layers))
