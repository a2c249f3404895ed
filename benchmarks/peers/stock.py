"""SDXL without a subject, with diffusers' pipeline: both prompts of the guidance in one batch, fused attention."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor

from benchmarks.peers.inputs import DenoisingInputs, Implementation, share_weights


def stock(inputs: DenoisingInputs) -> Implementation:
    """diffusers' `StableDiffusionXLPipeline` from encoded prompts to the final latents."""
    unet = share_weights(inputs.unet)
    pipeline = make_pipeline(unet, inputs)
    return Implementation("stock", lambda steps: run_pipeline(pipeline, inputs, steps), [unet])


def make_pipeline(unet: UNet2DConditionModel, inputs: DenoisingInputs) -> StableDiffusionXLPipeline:
    """A pipeline of a U-Net and a scheduler, without the other components."""
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=type(inputs.scheduler).from_config(inputs.scheduler.config),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def run_pipeline(pipeline: StableDiffusionXLPipeline, inputs: DenoisingInputs, steps: int, **more: Any) -> Tensor:
    """The final latents [b, 4, h, w] for the prompts of ``inputs``."""
    latents: Tensor = pipeline(
        prompt_embeds=inputs.prompt.tokens,
        pooled_prompt_embeds=inputs.prompt.pooled,
        negative_prompt_embeds=inputs.negative.tokens,
        negative_pooled_prompt_embeds=inputs.negative.pooled,
        height=inputs.pixels[0],
        width=inputs.pixels[1],
        latents=inputs.noise,
        num_inference_steps=steps,
        guidance_scale=inputs.guidance_scale,
        output_type="latent",
        **more,
    ).images
    return latents
