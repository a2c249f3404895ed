"""diffusers' own IP-Adapter implementation, with as many image tokens as RealCustom.

Of the projections in diffusers, "Full" (a two-layer MLP) is the cheapest that keeps one token per patch. diffusers
projects the image tokens in every U-Net call.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from benchmarks.peers.inputs import DenoisingInputs, Implementation, share_weights
from benchmarks.peers.stock import make_pipeline, run_pipeline


def ip_adapter(inputs: DenoisingInputs, clip_width: int, seed: int = 0) -> Implementation:
    """An IP-Adapter with random weights for image features of width ``clip_width``, on the U-Net of ``inputs``."""
    generator = torch.Generator(inputs.noise.device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        sample = torch.randn(shape, generator=generator, device=inputs.noise.device)
        return (sample * shape[-1] ** -0.5).to(inputs.noise.dtype)

    unet = share_weights(inputs.unet)
    width = int(unet.config.cross_attention_dim)
    projection = {
        "proj.0.weight": normal(clip_width, clip_width),
        "proj.0.bias": normal(clip_width),
        "proj.2.weight": normal(width, clip_width),
        "proj.2.bias": normal(width),
        "proj.3.weight": torch.ones_like(normal(width)),
        "proj.3.bias": torch.zeros_like(normal(width)),
    }
    keys_and_values = {}
    for index, outputs in _cross_attention_widths(unet).items():
        for part in ("k", "v"):
            keys_and_values[f"{index}.to_{part}_ip.weight"] = normal(outputs, width)
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys_and_values}])
    pipeline = make_pipeline(unet, inputs)
    image = normal(len(inputs.noise), 1, inputs.reference.deep.shape[1], clip_width)
    embeds = torch.cat([torch.zeros_like(image), image])
    return Implementation(
        "ip_adapter", lambda steps: run_pipeline(pipeline, inputs, steps, ip_adapter_image_embeds=[embeds]), [unet]
    )


def _cross_attention_widths(unet: UNet2DConditionModel) -> dict[int, int]:
    """Index of every cross-attention layer in diffusers (odd, in the order of the processors) -> its channels."""
    paths = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    return {2 * place + 1: unet.get_submodule(path).to_k.out_features for place, path in enumerate(paths)}
