"""Pixels and captions become what training reads: latents, text tokens and reference features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray
from torch import Tensor

from components.config import ModelConfig, VisionConfig
from components.data.once import Failed
from components.data.subject_image import CutOut, Pixels, View
from components.errors import ArtifactError
from components.model.face_tokens import face_tokens
from components.model.text import encode_prompts
from components.model.vision import VisionEncoder

Half = NDArray[np.float16]


class TextTokens(NamedTuple):
    """A caption's ``tokens`` [t, d] and ``pooled`` vector [p]."""

    tokens: Half
    pooled: Half


class Picture(NamedTuple):
    """A training picture's scaled ``latents`` [4, h, w]."""

    latents: Half


class Reference(NamedTuple):
    """A cut-out's features: ``deep`` [n, d], ``local`` [4 n, d], and its ``face`` group [n]."""

    deep: Half
    local: Half
    face: Half


class PicturePixels(NamedTuple):
    """A training picture, uint8 [H, W, 3]."""

    picture: Pixels


class ReferencePixels(NamedTuple):
    """A cut-out, uint8 [r, r, 3], and the box of its face in it, float32 [4]; zeros where none is known."""

    cutout: Pixels
    face_box: NDArray[np.float32]


class Encoder:
    """The frozen parts. Results are in half precision; one that is beyond it is `Failed`."""

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
        self.vision = VisionEncoder.load(model, vision).to(self.device, dtype)

    def latent_size(self, view: View) -> tuple[int, int]:
        """Height and width of a view's latents."""
        height, width = view.mask.shape
        return height // self.pipeline.vae_scale_factor, width // self.pipeline.vae_scale_factor

    @torch.inference_mode()
    def pictures(self, views: list[View]) -> list[Any]:
        """Views of one bucket as `Picture`: the posterior's mean, so that nothing is random."""
        vae = self.pipeline.vae
        pictures = torch.from_numpy(np.stack([view.picture for view in views])).to(vae.device)
        pixels = pictures.permute(0, 3, 1, 2).to(vae.dtype) / 127.5 - 1
        latents = _half(vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor)
        return [_checked(Picture(one), one) for one in latents]

    @torch.inference_mode()
    def texts(self, captions: list[str]) -> list[TextTokens | Failed]:
        text = encode_prompts(self.pipeline, captions)
        pairs = zip(_half(text.tokens), _half(text.pooled), strict=True)
        return [_checked(TextTokens(*pair), *pair) for pair in pairs]

    @torch.inference_mode()
    def references(self, cutouts: list[CutOut]) -> list[Any]:
        """Cut-outs as `Reference`."""
        pictures = torch.from_numpy(np.stack([cutout.pixels for cutout in cutouts])).to(self.device)
        pixels = pictures.permute(0, 3, 1, 2).to(next(self.vision.parameters()).dtype) / 127.5 - 1
        features = self.vision(pixels)
        deep, local, size = _half(features.deep), _half(features.local), pixels.shape[-1]
        faces = [_half(face_tokens(cutout.face_box, size, self.vision.grid)) for cutout in cutouts]
        return [_checked(Reference(d, x, f), d, x) for d, x, f in zip(deep, local, faces, strict=True)]


class TextOnly(Encoder):
    """Encodes texts, and leaves pictures to the steps of the training."""

    def pictures(self, views: list[View]) -> list[Any]:
        """Views as `PicturePixels`."""
        return [PicturePixels(view.picture) for view in views]

    def references(self, cutouts: list[CutOut]) -> list[Any]:
        """Cut-outs as `ReferencePixels`."""
        return [
            ReferencePixels(cutout.pixels, np.asarray(cutout.face_box or (0, 0, 0, 0), np.float32))
            for cutout in cutouts
        ]


def mask_shares(mask: NDArray[np.uint8], latents: tuple[int, int]) -> Half:
    """A mask [h, w] as its share of every latent position of ``latents`` (h, w)."""
    return _half(F.interpolate(torch.tensor(mask)[None, None].float() / 255, latents, mode="area")[0, 0])


def _checked(result: Any, *parts: Half) -> Any:
    """``result``, unless half precision overflowed in one of its ``parts``."""
    return result if all(np.isfinite(part).all() for part in parts) else Failed("beyond half precision")


def _device(model: ModelConfig) -> str:
    if model.device != "auto":
        return model.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _half(values: Tensor) -> Half:
    return values.to("cpu", torch.float16).contiguous().numpy()
