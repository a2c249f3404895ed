"""diffusers' IP-Adapter with as many image tokens as ours, loaded and run by diffusers itself.

Of the projections that diffusers ships, "Full" is the cheapest that keeps one token a patch: a two-layer MLP. As
diffusers does it, every U-Net call projects the image tokens anew.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from benchmarks.peers.scene import Implementation, Scene, share_weights
from benchmarks.peers.stock import pipeline_of, run_pipeline


def ip_adapter(scene: Scene, clip_width: int, seed: int = 0) -> Implementation:
    """A random-weight IP-Adapter on ``scene``'s U-Net, reading ``clip_width`` wide image features."""
    generator = torch.Generator(scene.noise.device).manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device=scene.noise.device)
        return (drawn * shape[-1] ** -0.5).to(scene.noise.dtype)

    unet = share_weights(scene.unet)
    width = int(unet.config.cross_attention_dim)
    projection = {
        "proj.0.weight": draw(clip_width, clip_width),
        "proj.0.bias": draw(clip_width),
        "proj.2.weight": draw(width, clip_width),
        "proj.2.bias": draw(width),
        "proj.3.weight": torch.ones_like(draw(width)),
        "proj.3.bias": torch.zeros_like(draw(width)),
    }
    keys_and_values = {}
    for index, outputs in _cross_attention_widths(unet).items():
        for part in ("k", "v"):
            keys_and_values[f"{index}.to_{part}_ip.weight"] = draw(outputs, width)
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys_and_values}])
    pipeline = pipeline_of(unet, scene)
    image = draw(len(scene.noise), 1, scene.reference.deep.shape[1], clip_width)
    embeds = torch.cat([torch.zeros_like(image), image])
    return Implementation(
        "ip_adapter", lambda steps: run_pipeline(pipeline, scene, steps, ip_adapter_image_embeds=[embeds]), [unet]
    )


def _cross_attention_widths(unet: UNet2DConditionModel) -> dict[int, int]:
    """diffusers' index of every cross-attention layer (odd, in the order of the processors) -> its channels."""
    paths = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    return {2 * place + 1: unet.get_submodule(path).to_k.out_features for place, path in enumerate(paths)}
