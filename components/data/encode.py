"""Pixels and captions become what training reads: latents, text tokens and reference features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray
from torch import Tensor

from components.config import ModelConfig, VisionConfig
from components.errors import ArtifactError
from components.model.faces import face_tokens
from components.model.text import encode_prompts
from components.model.vision import VisionEncoder


class Encoder:
    """The frozen parts. Maps curated columns to prepared ones (`components.data.schema`), batch by batch."""

    def __init__(self, model: ModelConfig, vision: VisionConfig) -> None:
        self.device = torch.device(_device(model))
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        dtype = getattr(torch, model.dtype)
        try:
            pipeline = StableDiffusionXLPipeline.from_pretrained(model.base, unet=None, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"model.base cannot be loaded: {str(error).splitlines()[0]}") from None
        self.pipeline = pipeline.to(self.device)
        if dtype == torch.float16:
            self.pipeline.vae.to(torch.float32)  # SDXL's autoencoder overflows in half precision
        self.vision = VisionEncoder.from_config(model, vision).to(self.device, dtype)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        text = encode_prompts(self.pipeline, [str(caption) for caption in batch["caption"]])
        latents = self._latents(batch["picture"])
        described = {name: batch[name] for name in ("id", "group", "caption", "word", "source", "split", "time_ids")}
        return described | {
            "latents": _half(latents),
            "text_tokens": _half(text.tokens),
            "text_pooled": _half(text.pooled),
            "mask": _half(_shares(batch["mask"], latents)),
            "head": _half(_shares(batch["head"], latents)),
            **self._references(batch),
        }

    def _latents(self, pictures: NDArray[np.uint8]) -> Tensor:
        """[b, s, s, 3] pictures to scaled latents [b, 4, h, w]: the posterior's mean, so that nothing is random."""
        vae = self.pipeline.vae
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(vae.device, vae.dtype) / 127.5 - 1
        latents: Tensor = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
        return latents

    def _references(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Features and face groups of both cut-outs of every row; a picture that several rows show is encoded once."""
        pairs = ((batch["id"], batch["cutout"]), (batch["other_id"], batch["other_cutout"]))
        cutouts = {str(name): cutout for names, pictures in pairs for name, cutout in zip(names, pictures, strict=True)}
        places = {name: place for place, name in enumerate(cutouts)}
        pixels = torch.from_numpy(np.stack(list(cutouts.values()))).permute(0, 3, 1, 2)
        features = self.vision(pixels.to(self.device, next(self.vision.parameters()).dtype) / 127.5 - 1)
        deep, local = _half(features.deep), _half(features.local)
        size, grid = pixels.shape[-1], self.vision.grid
        own, other = ([places[str(name)] for name in batch[column]] for column in ("id", "other_id"))
        return {
            "deep": deep[own],
            "local": local[own],
            "face": _half(_faces(batch["face_box"], size, grid)),
            "other_id": batch["other_id"],
            "other_deep": deep[other],
            "other_local": local[other],
            "other_face": _half(_faces(batch["other_face_box"], size, grid)),
        }


def _shares(masks: NDArray[np.uint8], latents: Tensor) -> Tensor:
    """Masks [b, s, s] as their share [b, h, w] of every latent position."""
    return F.interpolate(torch.from_numpy(masks)[:, None].float() / 255, latents.shape[-2:], mode="area")[:, 0]


def _faces(boxes: NDArray[np.float32], size: int, grid: int) -> Tensor:
    """The face group [b, n] of references of ``size`` pixels."""
    return torch.stack([face_tokens((x0, y0, x1, y1), size, grid) for x0, y0, x1, y1 in boxes.tolist()])


def _device(model: ModelConfig) -> str:
    if model.device != "auto":
        return model.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _half(values: Tensor) -> NDArray[np.float16]:
    return values.to("cpu", torch.float16).numpy()
