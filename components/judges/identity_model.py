"""The identity model of toy-world subjects: a unit vector of a subject, and a mask of its pixels."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Dinov2WithRegistersModel

from components.model.miniature import build_dinov2
from components.model.vision import for_dinov2

_PATCH = 8


class IdentityModel(nn.Module):
    """DINOv2 with a linear head that segments the subject, so that scores can be masked to it."""

    def __init__(self, backbone: Dinov2WithRegistersModel) -> None:
        super().__init__()
        self.backbone = backbone
        self.mask_head = nn.Linear(backbone.config.hidden_size, _PATCH * _PATCH)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[b, 3, h, w] in [-1, 1] -> identity vectors [b, width] of unit length, mask logits [b, h, w]."""
        output = self.backbone(pixel_values=for_dinov2(pixels))
        patches = output.last_hidden_state[:, 1 + self.backbone.config.num_register_tokens :]
        side = pixels.shape[-1] // _PATCH
        logits = self.mask_head(patches).view(-1, side, side, _PATCH, _PATCH)
        mask = logits.permute(0, 1, 3, 2, 4).reshape(-1, side * _PATCH, side * _PATCH)
        return F.normalize(output.pooler_output, dim=-1), mask


def build_identity(width: int) -> IdentityModel:
    """An untrained identity model with ``width`` channels."""
    return IdentityModel(build_dinov2(width))


def save_identity(model: IdentityModel, directory: Path) -> None:
    """Write the backbone in transformers' layout, with the mask head beside it."""
    model.backbone.save_pretrained(directory)
    save_file({k: v.contiguous() for k, v in model.mask_head.state_dict().items()}, directory / "mask_head.safetensors")


def load_identity(directory: Path) -> IdentityModel:
    """Read what `save_identity` wrote."""
    model = IdentityModel(Dinov2WithRegistersModel.from_pretrained(directory, dtype=torch.float32))
    model.mask_head.load_state_dict(load_file(directory / "mask_head.safetensors"))
    return model.requires_grad_(False).eval()
