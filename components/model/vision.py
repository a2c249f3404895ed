"""A reference image as patch features: SigLIP and DINOv2 on one global and four polyphase local views (paper 3.2).

Shapes: b images, v pixels a view (384 in the full system), n patches a view (729), d channels (1152 + 1024).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from PIL import Image, ImageOps
from torch import Tensor
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig

from components.config import AdapterConfig, ModelConfig, VisionConfig, load_config
from components.errors import ArtifactError
from components.model.siglip import SiglipVisionModel

#: ImageNet statistics, which every DINOv2 expects (SigLIP takes [-1, 1]).
_DINO_MEAN = (0.485, 0.456, 0.406)
_DINO_STD = (0.229, 0.224, 0.225)
#: Bytes of a file of weights that are hashed at a time.
_BLOCK = 2**24


@dataclass(frozen=True)
class VisionFeatures:
    """The input of the projector.

    Args:
        deep: [b, n, d] of the global view.
        local: [b, 4 n, d] of the local views.
        shallow: [b, n, d] of the global view at each of the earlier blocks, for the shallow projector.
    """

    deep: Tensor
    local: Tensor
    shallow: tuple[Tensor, ...] = ()


class VisionEncoder(ModelMixin, ConfigMixin):
    """Both frozen encoders. Features are un-normalised hidden states of one block, patch tokens only (paper 3.2).

    Args:
        siglip_config, dinov2_config: configurations of the two transformers models.
        vision_config: view size and blocks, a `VisionConfig` or its fields.
        identity: names these encoders and blocks; features of another identity must not be mixed with theirs.
    """

    @register_to_config
    def __init__(
        self,
        siglip_config: Mapping[str, Any],
        dinov2_config: Mapping[str, Any],
        vision_config: VisionConfig | Mapping[str, Any],
        identity: str,
    ) -> None:
        super().__init__()
        self.vision_config = VisionConfig.model_validate(vision_config)
        self.identity = identity
        self.register_to_config(vision_config=self.vision_config.model_dump(mode="json"))
        self.siglip = SiglipVisionModel(SiglipVisionConfig.from_dict(dict(siglip_config)))
        self.dinov2 = Dinov2WithRegistersModel(Dinov2WithRegistersConfig.from_dict(dict(dinov2_config)))
        self.requires_grad_(False).eval()

    @classmethod
    def from_models(
        cls, siglip: SiglipVisionModel, dinov2: Dinov2WithRegistersModel, config: VisionConfig, identity: str
    ) -> VisionEncoder:
        """An encoder of two loaded models."""
        with torch.device("meta"):
            encoder = cls(siglip.config.to_diff_dict(), dinov2.config.to_diff_dict(), config, identity)
        encoder.siglip, encoder.dinov2 = siglip, dinov2
        return encoder.requires_grad_(False).eval()

    @classmethod
    def load(cls, model: ModelConfig, vision: VisionConfig, dtype: torch.dtype = torch.float32) -> VisionEncoder:
        """Load both encoders from the hub names or directories that ``model`` gives."""
        try:
            siglip = _load_siglip(model.siglip, dtype)
            dinov2 = Dinov2WithRegistersModel.from_pretrained(model.dinov2, dtype=dtype)
        except OSError as error:
            raise ArtifactError(
                f"model.siglip or model.dinov2 cannot be loaded: {str(error).splitlines()[0]}"
            ) from None
        return cls.from_models(siglip, dinov2, vision, encoder_identity(model, vision))

    @classmethod
    def of_release(cls, adapter: AdapterConfig) -> VisionEncoder:
        """The encoders and blocks that the authors' release was trained with."""
        preset = load_config("sdxl")
        shallow = {"siglip_shallow": (7, 13, 19), "dinov2_shallow": (4, 10, 16)}
        vision = preset.vision.model_copy(update=shallow if adapter.projector == "shallow" else {})
        return cls.load(preset.model, vision)

    @classmethod
    def from_release_0_1(cls, directory: Path) -> VisionEncoder:
        """The encoder of a pipeline directory that was saved before 0.2.0, as two transformers models."""
        description = json.loads((directory / "vision.json").read_text())
        siglip = _load_siglip(directory / "siglip")
        dinov2 = Dinov2WithRegistersModel.from_pretrained(directory / "dinov2", dtype=torch.float32)
        return cls.from_models(siglip, dinov2, VisionConfig(**description["vision"]), description["identity"])

    @property
    def channels(self) -> int:
        """d: the channels of both encoders together."""
        return int(self.siglip.config.hidden_size + self.dinov2.config.hidden_size)

    @property
    def reference_size(self) -> int:
        """Side in pixels of the square reference images that this encoder takes (two views wide)."""
        return 2 * self.vision_config.view_size

    @property
    def grid(self) -> int:
        """Number of patches on a side of a view."""
        return int(self.vision_config.view_size // self.dinov2.config.patch_size)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> VisionFeatures:
        """Encode references.

        Args:
            pixels: [b, 3, 2 v, 2 v] in [-1, 1].
        """
        size = self.vision_config.view_size
        if pixels.shape[-2:] != (2 * size, 2 * size):
            raise ValueError(f"references must be {2 * size} x {2 * size} pixels, not {tuple(pixels.shape[-2:])}")
        # Bilinear resizing to half the size without antialiasing is the mean of 2 x 2 pixels.
        whole = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
        blocks = [(self.vision_config.siglip_block, self.vision_config.dinov2_block)]
        earlier = list(zip(self.vision_config.siglip_shallow, self.vision_config.dinov2_shallow, strict=True))
        deep, *shallow = self._features(whole, blocks + earlier)
        (local,) = self._features(split_views(pixels), blocks)
        return VisionFeatures(deep, merge_views(local, len(pixels)), tuple(shallow))

    def encode_images(self, images: list[Image.Image], device: torch.device | None = None) -> VisionFeatures:
        """Encode RGB images, resized to `reference_size`; white is added to those that are not square.

        Args:
            device: where the encoder computes; that of its parameters by default (not if it is offloaded).
        """
        side = self.reference_size
        resized = [square(image.convert("RGB"), side) for image in images]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2)
        features: VisionFeatures = self(pixels.to(device or self.device).to(self.dtype) / 127.5 - 1)
        return features

    def _features(self, pixels: Tensor, blocks: list[tuple[int, int]]) -> list[Tensor]:
        """Patch tokens [b, n, d] after each pair of (SigLIP, DINOv2) blocks."""
        siglip = self.siglip(pixel_values=pixels, output_hidden_states=True).hidden_states
        dinov2 = self.dinov2(pixel_values=for_dinov2(pixels), output_hidden_states=True).hidden_states
        skipped = 1 + self.dinov2.config.num_register_tokens
        return [torch.cat([siglip[s + 1], dinov2[d + 1][:, skipped:]], dim=-1) for s, d in blocks]


def square(image: Image.Image, side: int) -> Image.Image:
    """An RGB image resized to ``side`` pixels each way, padded with white to a square, never squashed."""
    return ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC, color="white")


def _load_siglip(name_or_path: str | Path, dtype: torch.dtype = torch.float32) -> SiglipVisionModel:
    """SigLIP's vision tower without its pooling head.

    The features are patch tokens. The head would be computed for nothing, and it reads parameters of a submodule
    directly, which fails where these are offloaded one by one.
    """
    return SiglipVisionModel.from_pretrained(name_or_path, dtype=dtype, vision_use_head=False)


def for_dinov2(pixels: Tensor) -> Tensor:
    """Pixels [..., 3, h, w] in [-1, 1], as DINOv2 expects them."""
    mean, std = _dino_statistics(pixels.device, pixels.dtype)
    return ((pixels + 1) / 2 - mean) / std


@cache
def _dino_statistics(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and deviation [3, 1, 1]. They are copied to a device once: every copy would wait for it."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(v, dtype=dtype, device=device).view(3, 1, 1) for v in (_DINO_MEAN, _DINO_STD))
    return mean, std


def split_views(pixels: Tensor) -> Tensor:
    """[b, c, 2 v, 2 v] -> [4 b, c, v, v]: every second pixel, at the four offsets (rows first)."""
    b, c, h, w = pixels.shape
    return pixels.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(4 * b, c, h // 2, w // 2)


def merge_views(features: Tensor, batch: int) -> Tensor:
    """[4 b, n, d] -> [b, 4 n, d]: the four views' tokens of one patch become neighbours."""
    _, n, d = features.shape
    return features.view(batch, 4, n, d).transpose(1, 2).reshape(batch, 4 * n, d)


def encoder_channels(model: ModelConfig) -> int:
    """d, the channels of both encoders together, from their configurations alone."""
    try:
        siglip = SiglipVisionConfig.from_pretrained(model.siglip)
        dinov2 = Dinov2WithRegistersConfig.from_pretrained(model.dinov2)
    except OSError as error:
        raise ArtifactError(f"model.siglip or model.dinov2 cannot be loaded: {str(error).splitlines()[0]}") from None
    return int(siglip.hidden_size + dinov2.hidden_size)


def encoder_identity(model: ModelConfig, vision: VisionConfig) -> str:
    """A short hash of which encoders and blocks are used; local directories are hashed by their weights."""
    parts = [_weights_digest(p) for p in (model.siglip, model.dinov2)]
    blocks = vision.model_dump()
    # Without shallow features, the identity is the one that adapters and datasets made before shallow features have.
    blocks = {key: value for key, value in blocks.items() if value != ()}
    return hashlib.sha256(json.dumps([*parts, blocks]).encode()).hexdigest()[:16]


def _weights_digest(part: str) -> str:
    files = sorted(Path(part).rglob("*.safetensors")) if Path(part).is_dir() else []
    if not files:
        return part
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
