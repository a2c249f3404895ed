"""Encoding of pixels and captions into latents, text tokens and reference features."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from components.config import ModelConfig, VisionConfig
from components.data.batch_cache import Failed
from components.data.subject_image import Pixels, ReferenceCutOut, TrainingView
from components.errors import ArtifactError
from components.model.face_tokens import face_tokens
from components.model.text import TextPooling, encode_prompts
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder

Half = NDArray[np.float16]


class TextTokens(NamedTuple):
    """A caption's ``tokens`` [t, d] and ``pooled`` vector [p]."""

    tokens: Half
    pooled: Half


class PictureLatents(NamedTuple):
    """A training picture's scaled ``latents`` [4, h, w]."""

    latents: Half


class ReferenceFeatures(NamedTuple):
    """A cut-out's features: ``deep`` [n, d], ``local`` [4 n, d], and its ``face`` group [n]."""

    deep: Half
    local: Half
    face: Half


class ShallowReferenceFeatures(NamedTuple):
    """`ReferenceFeatures` with the global view's features ``shallow`` [k, n, d] at k earlier blocks."""

    deep: Half
    local: Half
    face: Half
    shallow: Half


class PicturePixels(NamedTuple):
    """A training picture, uint8 [H, W, 3]."""

    picture: Pixels


class ReferencePixels(NamedTuple):
    """A cut-out, uint8 [r, r, 3], and the box of its face in it, float32 [4]; zeros if none is known."""

    cutout: Pixels
    face_box: NDArray[np.float32]


class Encoder:
    """The frozen models. Results are in half precision; a result that overflows is `Failed`.

    Args:
        pooling: the pooled text vector, see `components.model.text.encode_prompts`.
    """

    def __init__(self, model: ModelConfig, vision: VisionConfig, pooling: TextPooling = "projected") -> None:
        self._model, self._vision, self._pooling = model, vision, pooling
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

    @cached_property
    def vision(self) -> VisionEncoder:
        """Both vision encoders, which are loaded for the first reference."""
        return VisionEncoder.load(self._model, self._vision, self.pipeline.text_encoder.dtype).to(self.device)

    def latent_size(self, view: TrainingView) -> tuple[int, int]:
        """Height and width of a view's latents."""
        height, width = view.mask.shape
        return height // self.pipeline.vae_scale_factor, width // self.pipeline.vae_scale_factor

    @torch.inference_mode()
    def pictures(self, views: list[TrainingView]) -> list[Any]:
        """Views of one bucket as `PictureLatents`: the mean of the posterior, which is deterministic."""
        vae = self.pipeline.vae
        pictures = torch.from_numpy(np.stack([view.picture for view in views])).to(vae.device)
        pixels = pictures.permute(0, 3, 1, 2).to(vae.dtype) / 127.5 - 1
        latents = _half(vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor)
        return [_checked(PictureLatents(one), one) for one in latents]

    @torch.inference_mode()
    def texts(self, captions: list[str]) -> list[TextTokens | Failed]:
        text = encode_prompts(self.pipeline, captions, self._pooling)
        pairs = zip(_half(text.tokens), _half(text.pooled), strict=True)
        return [_checked(TextTokens(*pair), *pair) for pair in pairs]

    @torch.inference_mode()
    def references(self, cutouts: list[ReferenceCutOut]) -> list[Any]:
        """Cut-outs as `ReferenceFeatures`, or with features at earlier blocks where those are configured."""
        pictures = torch.from_numpy(np.stack([cutout.pixels for cutout in cutouts])).to(self.device)
        pixels = pictures.permute(0, 3, 1, 2).to(next(self.vision.parameters()).dtype) / 127.5 - 1
        features = self.vision(pixels)
        deep, local, size = _half(features.deep), _half(features.local), pixels.shape[-1]
        faces = [_half(face_tokens(cutout.face_box, size, self.vision.grid)) for cutout in cutouts]
        if not features.shallow:
            return [_checked(ReferenceFeatures(d, x, f), d, x) for d, x, f in zip(deep, local, faces, strict=True)]
        parts = zip(deep, local, faces, _half(torch.stack(features.shallow, 1)), strict=True)
        return [_checked(ShallowReferenceFeatures(d, x, f, s), d, x, s) for d, x, f, s in parts]

    @torch.inference_mode()
    def unconditional(self) -> UnconditionalInputs:
        """Features of a black reference and of an empty prompt."""
        side = self.vision.reference_size
        text = encode_prompts(self.pipeline, [""], self._pooling)
        black = self.vision.encode_images([Image.new("RGB", (side, side))])
        return UnconditionalInputs.of(black, text)


class LatentsAndText(Encoder):
    """Encodes pictures and texts; references are encoded in training."""

    def unconditional(self) -> UnconditionalInputs:
        """As that of `Encoder`; the vision encoders are then freed."""
        inputs = super().unconditional()
        del self.vision
        return inputs

    def references(self, cutouts: list[ReferenceCutOut]) -> list[Any]:
        """Cut-outs as `ReferencePixels`."""
        return [
            ReferencePixels(cutout.pixels, np.asarray(cutout.face_box or (0, 0, 0, 0), np.float32))
            for cutout in cutouts
        ]


class TextOnly(LatentsAndText):
    """Encodes texts only; pictures and references are encoded in training."""

    def pictures(self, views: list[TrainingView]) -> list[Any]:
        """Views as `PicturePixels`."""
        return [PicturePixels(view.picture) for view in views]


#: By ``data.encode``.
ENCODERS: dict[str, type[Encoder]] = {"all": Encoder, "latents": LatentsAndText, "text": TextOnly}


def mask_shares(mask: NDArray[np.uint8], latents: tuple[int, int]) -> Half:
    """A mask [h, w] as its share of every latent position of ``latents`` (h, w)."""
    return _half(F.interpolate(torch.tensor(mask)[None, None].float() / 255, latents, mode="area")[0, 0])


def _checked(result: Any, *parts: Half) -> Any:
    """``result``, or `Failed` if one of its ``parts`` overflowed in half precision."""
    return result if all(np.isfinite(part).all() for part in parts) else Failed("beyond half precision")


def _device(model: ModelConfig) -> str:
    if model.device != "auto":
        return model.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _half(values: Tensor) -> Half:
    return values.to("cpu", torch.float16).contiguous().numpy()
