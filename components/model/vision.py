"""A reference picture as patch features: SigLIP and DINOv2 on one global and four polyphase local views.

Shapes: b pictures, v pixels a view (384 in the full system), n patches a view (729), d channels (1152 + 1024).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import Dinov2WithRegistersModel

from components.config import AdapterConfig, ModelConfig, VisionConfig, load_config
from components.errors import ArtifactError
from components.model.siglip import SiglipVisionModel

_DESCRIPTION = "vision.json"
#: ImageNet statistics, which every DINOv2 expects (SigLIP takes [-1, 1]).
_DINO_MEAN = (0.485, 0.456, 0.406)
_DINO_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VisionFeatures:
    """What the projector reads.

    Args:
        deep: [b, n, d] of the global view.
        local: [b, 4 n, d] of the local views.
        shallow: [b, n, d] of the global view at each of the earlier blocks, where the projector wants them.
    """

    deep: Tensor
    local: Tensor
    shallow: tuple[Tensor, ...] = ()


class VisionEncoder(nn.Module):
    """Both frozen encoders. Features are un-normalised hidden states of one block, patch tokens only (paper 3.2)."""

    def __init__(
        self, siglip: SiglipVisionModel, dinov2: Dinov2WithRegistersModel, config: VisionConfig, identity: str
    ) -> None:
        super().__init__()
        self.siglip, self.dinov2, self.config = siglip, dinov2, config
        #: Names these encoders and blocks; features of another identity must not be mixed with theirs.
        self.identity = identity
        self.requires_grad_(False).eval()

    @classmethod
    def from_config(cls, model: ModelConfig, vision: VisionConfig) -> VisionEncoder:
        """Load both encoders from hub names or directories."""
        parts = {name: str(getattr(model, name)) for name in ("siglip", "dinov2")}
        try:
            siglip = SiglipVisionModel.from_pretrained(parts["siglip"], dtype=torch.float32)
            dinov2 = Dinov2WithRegistersModel.from_pretrained(parts["dinov2"], dtype=torch.float32)
        except OSError as error:
            raise ArtifactError(
                f"model.siglip or model.dinov2 cannot be loaded: {str(error).splitlines()[0]}"
            ) from None
        return cls(siglip, dinov2, vision, encoder_identity(model, vision))

    @classmethod
    def of_release(cls, adapter: AdapterConfig) -> VisionEncoder:
        """The encoders and blocks that the authors' release was trained with."""
        preset = load_config("sdxl")
        shallow = {"siglip_shallow": (7, 13, 19), "dinov2_shallow": (4, 10, 16)}
        vision = preset.vision.model_copy(update=shallow if adapter.projector == "shallow" else {})
        return cls.from_config(preset.model, vision)

    @classmethod
    def from_pretrained(cls, directory: Path) -> VisionEncoder:
        """Read what `save_pretrained` wrote."""
        described = json.loads((directory / _DESCRIPTION).read_text())
        siglip = SiglipVisionModel.from_pretrained(directory / "siglip", dtype=torch.float32)
        dinov2 = Dinov2WithRegistersModel.from_pretrained(directory / "dinov2", dtype=torch.float32)
        return cls(siglip, dinov2, VisionConfig(**described["vision"]), described["identity"])

    def save_pretrained(self, directory: Path) -> None:
        """Write both encoders into folders of ``directory``, with what is read of them beside."""
        self.siglip.save_pretrained(directory / "siglip")
        self.dinov2.save_pretrained(directory / "dinov2")
        described = {"vision": self.config.model_dump(), "identity": self.identity}
        (directory / _DESCRIPTION).write_text(json.dumps(described, indent=1))

    @property
    def channels(self) -> int:
        """d: the channels of both encoders together."""
        return int(self.siglip.config.hidden_size + self.dinov2.config.hidden_size)

    @property
    def reference_size(self) -> int:
        """Side in pixels of the square reference pictures this encoder takes (two views wide)."""
        return 2 * self.config.view_size

    @property
    def grid(self) -> int:
        """Patches on a side of a view."""
        return int(self.config.view_size // self.dinov2.config.patch_size)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> VisionFeatures:
        """Encode references.

        Args:
            pixels: [b, 3, 2 v, 2 v] in [-1, 1].
        """
        size = self.config.view_size
        if pixels.shape[-2:] != (2 * size, 2 * size):
            raise ValueError(f"references must be {2 * size} x {2 * size} pixels, not {tuple(pixels.shape[-2:])}")
        # Bilinear to half the size, as the authors do it: without antialiasing this is the mean of 2 x 2 pixels.
        whole = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
        blocks = [(self.config.siglip_block, self.config.dinov2_block)]
        earlier = list(zip(self.config.siglip_shallow, self.config.dinov2_shallow, strict=True))
        deep, *shallow = self._features(whole, blocks + earlier)
        (local,) = self._features(split_views(pixels), blocks)
        return VisionFeatures(deep, merge_views(local, len(pixels)), tuple(shallow))

    def encode_pictures(self, pictures: list[Image.Image]) -> VisionFeatures:
        """Encode square RGB pictures of any size."""
        side = self.reference_size
        sized = [p.convert("RGB").resize((side, side), Image.Resampling.BICUBIC) for p in pictures]
        pixels = torch.from_numpy(np.stack([np.asarray(p) for p in sized])).permute(0, 3, 1, 2)
        parameter = next(self.parameters())
        return self(pixels.to(parameter.device).to(parameter.dtype) / 127.5 - 1)

    def _features(self, pixels: Tensor, blocks: list[tuple[int, int]]) -> list[Tensor]:
        """Patch tokens [b, n, d] after each pair of (SigLIP, DINOv2) blocks."""
        siglip = self.siglip(pixel_values=pixels, output_hidden_states=True).hidden_states
        dinov2 = self.dinov2(pixel_values=for_dinov2(pixels), output_hidden_states=True).hidden_states
        skipped = 1 + self.dinov2.config.num_register_tokens
        return [torch.cat([siglip[s + 1], dinov2[d + 1][:, skipped:]], dim=-1) for s, d in blocks]


def for_dinov2(pixels: Tensor) -> Tensor:
    """Pixels [..., 3, h, w] in [-1, 1], as DINOv2 expects them."""
    mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (_DINO_MEAN, _DINO_STD))
    return ((pixels + 1) / 2 - mean) / std


def split_views(pixels: Tensor) -> Tensor:
    """[b, c, 2 v, 2 v] -> [4 b, c, v, v]: every second pixel, at the four offsets (rows first)."""
    b, c, h, w = pixels.shape
    return pixels.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(4 * b, c, h // 2, w // 2)


def merge_views(features: Tensor, batch: int) -> Tensor:
    """[4 b, n, d] -> [b, 4 n, d]: the four views' tokens of one patch become neighbours."""
    _, n, d = features.shape
    return features.view(batch, 4, n, d).transpose(1, 2).reshape(batch, 4 * n, d)


def encoder_identity(model: ModelConfig, vision: VisionConfig) -> str:
    """A short hash of which encoders and blocks are used; local directories are hashed by their weights."""
    parts = [_weights_digest(p) for p in (model.siglip, model.dinov2)]
    blocks = vision.model_dump()
    # Without shallow features the name is the one that adapters and datasets already carry.
    blocks = {key: value for key, value in blocks.items() if value != ()}
    return hashlib.sha256(json.dumps([*parts, blocks]).encode()).hexdigest()[:16]


def _weights_digest(part: str) -> str:
    files = sorted(Path(part).rglob("*.safetensors")) if Path(part).is_dir() else []
    if not files:
        return part
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
