"""The inputs of all implementations: U-Net, adapter, initial noise, encoded prompts and references.

Shapes: b images, t text tokens, n vision tokens, (h, w) latents.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor, nn

from benchmarks.sizes import Size
from components.config import Config, GuidanceConfig
from components.evaluation.toybench import Case
from components.model.adapter import RealCustomAdapter
from components.model.text import TextFeatures, encode_prompts, size_conditioning
from components.model.vision import VisionEncoder, VisionFeatures
from components.model.words import token_mask

#: (latents scaled by the scheduler, timestep, step) -> guided noise prediction.
NoisePredictor = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class DenoisingInputs:
    """The inputs of the guided denoising of b images, each with one subject.

    Args:
        unet: the U-Net without adapter; each implementation uses a copy that shares its weights (`share_weights`).
        adapter: the RealCustom adapter for ``unet``.
        scheduler: copied before use.
        noise: unit Gaussian [b, 4, h, w].
        pixels: (height, width) of the images, for SDXL's size conditioning.
        prompt, negative: features of b prompts each.
        reference, absent: features of the b references, and of one black image.
        words: weights [b, t] of the target words' tokens.
        guidance_scale: classifier-free guidance scale.
        guidance: default computation of the influence masks.
    """

    unet: UNet2DConditionModel
    adapter: RealCustomAdapter
    scheduler: Any
    noise: Tensor
    pixels: tuple[int, int]
    prompt: TextFeatures
    negative: TextFeatures
    reference: VisionFeatures
    absent: VisionFeatures
    words: Tensor
    guidance_scale: float
    guidance: GuidanceConfig

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the latents."""
        return self.noise.shape[-2], self.noise.shape[-1]

    @property
    def time_ids(self) -> Tensor:
        """SDXL's size conditioning [b, 6]."""
        return size_conditioning(self.pixels, (0, 0), self.pixels, len(self.noise)).to(self.noise)


@dataclass(frozen=True)
class Implementation:
    """An implementation of denoising: ``run(steps)`` returns the final latents; ``weights`` are its modules."""

    name: str
    run: Callable[[int], Tensor]
    weights: Sequence[nn.Module] = field(default_factory=tuple)

    @property
    def weights_mib(self) -> float:
        """MiB of the parameters of ``weights``; what modules share counts once."""
        tensors = {id(t): t for module in self.weights for t in module.parameters()}
        return sum(t.numel() * t.element_size() for t in tensors.values()) / 2**20


def share_weights(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy of a U-Net with its own attention processors and configuration that shares the weights."""
    shared: dict[int, Any] = {id(t): t for t in chain(unet.parameters(), unet.buffers())}
    return copy.deepcopy(unet, shared)


@torch.no_grad()
def denoise(
    inputs: DenoisingInputs, predict: NoisePredictor, steps: int, after_step: Callable[[], None] | None = None
) -> Tensor:
    """diffusers' denoising loop; returns the final latents. ``after_step`` is called after every step."""
    scheduler = copy.deepcopy(inputs.scheduler)
    scheduler.set_timesteps(steps, device=inputs.noise.device)
    latents = inputs.noise * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        predicted = predict(scheduler.scale_model_input(latents, timestep), timestep, step)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        if after_step is not None:
            after_step()
    return latents


def random_inputs(
    size: Size,
    guidance: GuidanceConfig,
    guidance_scale: float,
    device: str,
    seed: int,
    unet: UNet2DConditionModel | None = None,
) -> DenoisingInputs:
    """Inputs for one image of ``size`` with random weights and features: they have the right shapes and cost only.

    Args:
        unet: of that size; a random one by default.
    """
    torch.manual_seed(seed)
    with torch.device(device):
        unet = unet or UNet2DConditionModel(**size.unet())
        adapter = RealCustomAdapter.for_unet(unet, size.vision_channels, size.adapter, "random")
        for layer in adapter.layers.values():
            layer.to_v_vision.reset_parameters()
        for module in (unet, adapter):
            module.to(size.dtype).requires_grad_(False).eval()

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=size.dtype)

        def text() -> TextFeatures:
            return TextFeatures(normal(1, size.text_tokens, size.context_width), normal(1, size.pooled_width))

        def features() -> VisionFeatures:
            deep = normal(1, size.vision_tokens, size.vision_channels)
            return VisionFeatures(deep, normal(1, 4 * size.vision_tokens, size.vision_channels))

        words = torch.zeros(1, size.text_tokens, dtype=size.dtype)
        words[:, 5] = 1
        return DenoisingInputs(
            unet=unet,
            adapter=adapter,
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            noise=normal(1, 4, size.latent, size.latent),
            pixels=(8 * size.latent, 8 * size.latent),
            prompt=text(),
            negative=text(),
            reference=features(),
            absent=features(),
            words=words,
            guidance_scale=guidance_scale,
            guidance=guidance,
        )


@torch.no_grad()
def toy_inputs(config: Config, cases: Sequence[Case]) -> DenoisingInputs:
    """Inputs for toy-world cases with the miniature of ``config``; without ``model.adapter``, with a random adapter."""
    torch.manual_seed(config.seed)
    base = StableDiffusionXLPipeline.from_pretrained(config.model.base, dtype=torch.float32)
    vision = VisionEncoder.load(config.model, config.vision)
    if config.model.adapter:
        adapter = RealCustomAdapter.from_pretrained(config.model.adapter)
    else:
        adapter = RealCustomAdapter.for_unet(base.unet, vision.channels, config.adapter, vision.identity)
        for layer in adapter.layers.values():
            layer.to_v_vision.reset_parameters()
    for module in (base.unet, adapter):
        module.requires_grad_(False).eval()
    prompts = [case.wanted.prompt for case in cases]
    sampling = config.sampling
    shape = (
        base.unet.config.in_channels,
        *(side // base.vae_scale_factor for side in (sampling.height, sampling.width)),
    )
    black = torch.full((1, 3, vision.reference_size, vision.reference_size), -1.0)
    return DenoisingInputs(
        unet=base.unet,
        adapter=adapter,
        scheduler=base.scheduler,
        noise=torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(c.seed)) for c in cases]),
        pixels=(sampling.height, sampling.width),
        prompt=encode_prompts(base, prompts),
        negative=encode_prompts(base, [""] * len(prompts)),
        reference=vision.encode_images([case.reference for case in cases]),
        absent=vision(black),
        words=torch.stack([token_mask(base.tokenizer, c.wanted.prompt, c.wanted.kind) for c in cases]),
        guidance_scale=sampling.guidance_scale,
        guidance=sampling.guidance,
    )
