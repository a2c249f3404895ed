"""The pictures of IP-Adapters (arXiv 2308.06721), which give requests a style, in the rows of a common U-Net call.

pipeline.load_ip_adapter("h94/IP-Adapter", subfolder="sdxl_models", weight_name="ip-adapter_sdxl.safetensors")
pipeline.set_ip_adapter_scale({"up": {"block_0": [0.0, 1.0, 0.0]}})  # the layers of style alone
pipeline("a robot on the beach", subjects=robot, ip_adapter_image=painting)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from components.model.generation_request import GenerationRequest


@dataclass(frozen=True, eq=False)
class StyleImages:
    """The style of one conditioning.

    Args:
        embeds: for each IP-Adapter, features [rows, pictures, ...] of all rows, the unconditional ones first.
        given: whether the request has a picture; otherwise the embeds are those of a black one, and do not act.
    """

    embeds: list[Tensor]
    given: bool


def encode_style(pipeline: StableDiffusionXLPipeline, request: GenerationRequest, guided: bool) -> StyleImages | None:
    """The style of a request; None if the pipeline has no IP-Adapter.

    Raises:
        ValueError: there is a picture but no IP-Adapter, their numbers differ, or none can be encoded.
    """
    image, embeds = request.ip_adapter_image, request.ip_adapter_image_embeds
    given = image is not None or embeds is not None
    if pipeline.unet.config.encoder_hid_dim_type != "ip_image_proj":
        if given:
            raise ValueError("ip_adapter_image: no IP-Adapter is loaded; call load_ip_adapter first")
        return None
    if embeds is None and pipeline.image_encoder is None:
        raise ValueError("ip_adapter_image: no image encoder is loaded; give ip_adapter_image_embeds")
    if not given and getattr(pipeline, "adapter", None) is None:
        raise ValueError("ip_adapter_image: give a picture, or call unload_ip_adapter")
    if not given:
        image = [Image.new("RGB", (8, 8))] * len(pipeline.unet.encoder_hid_proj.image_projection_layers)
    device, dtype = pipeline._execution_device, pipeline.unet.dtype
    made = pipeline.prepare_ip_adapter_image_embeds(image, embeds, device, request.count, guided)
    return StyleImages([each.to(dtype) for each in made], given)


def stack_styles(
    parts: Sequence[tuple[StyleImages | None, slice]],
) -> tuple[list[Tensor] | None, tuple[bool, ...] | None]:
    """The embeds of the given rows of all ``parts``, and in which rows they act; None where there is no IP-Adapter.

    Raises:
        ValueError: the requests have different numbers of pictures.
    """
    styles = [(style, rows) for style, rows in parts if style is not None]
    if not styles:
        return None, None
    stacked, first = [], styles[0][0]
    for index, example in enumerate(first.embeds):
        selected = [style.embeds[index][rows] for style, rows in styles]
        if any(each.shape[1:] != example.shape[1:] for each in selected):
            raise ValueError("ip_adapter_image: images of one batch must have equally many pictures of a style")
        stacked.append(torch.cat(selected))
    acts = tuple(style.given for style, rows in styles for _ in style.embeds[0][rows])
    return stacked, acts


def added_conditions(embeds: list[Tensor] | None) -> dict[str, Any]:
    """The entry of the U-Net's ``added_cond_kwargs``."""
    return {} if embeds is None else {"image_embeds": embeds}
