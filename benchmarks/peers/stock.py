"""SDXL with guidance and without a subject, by diffusers' pipeline: both prompts in one batch, fused attention."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor

from benchmarks.peers.scene import Implementation, Scene, share_weights


def stock(scene: Scene) -> Implementation:
    """diffusers' `StableDiffusionXLPipeline`, given encoded prompts, up to the last latents."""
    unet = share_weights(scene.unet)
    pipeline = pipeline_of(unet, scene)
    return Implementation("stock", lambda steps: run_pipeline(pipeline, scene, steps), [unet])


def pipeline_of(unet: UNet2DConditionModel, scene: Scene) -> StableDiffusionXLPipeline:
    """A pipeline of a U-Net and a scheduler alone."""
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=type(scene.scheduler).from_config(scene.scheduler.config),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def run_pipeline(pipeline: StableDiffusionXLPipeline, scene: Scene, steps: int, **more: Any) -> Tensor:
    """The last latents [b, 4, h, w] of ``scene``'s prompts."""
    latents: Tensor = pipeline(
        prompt_embeds=scene.prompt.tokens,
        pooled_prompt_embeds=scene.prompt.pooled,
        negative_prompt_embeds=scene.negative.tokens,
        negative_pooled_prompt_embeds=scene.negative.pooled,
        height=scene.pixels[0],
        width=scene.pixels[1],
        latents=scene.noise,
        num_inference_steps=steps,
        guidance_scale=scene.guidance_scale,
        output_type="latent",
        **more,
    ).images
    return latents
