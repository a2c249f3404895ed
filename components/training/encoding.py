"""Encoding in training steps: pixels of pictures and references become latents and features.

References are augmented first, increasingly over the curriculum: rotated, scaled and shifted on white, with their face
box.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from components.config import Config, CurriculumConfig
from components.model.vision import VisionEncoder
from components.training.curriculum import PoseRange, pose_range
from components.training.dataset_rows import Batch
from components.training.transfer import to_device

_WHITE = 1.0


class StepEncoder:
    """The frozen autoencoder and vision encoders, on the worker's device and in the vision encoders' precision."""

    def __init__(self, config: Config, vision: VisionEncoder, device: torch.device) -> None:
        self._base, self._device = config.model.base, device
        self.vision, self.curriculum = vision.to(device), config.training.curriculum

    @cached_property
    def vae(self) -> AutoencoderKL:
        """The autoencoder, which is loaded for the first picture."""
        vae = AutoencoderKL.from_pretrained(self._base, subfolder="vae", dtype=self.vision.dtype)
        return vae.requires_grad_(False).to(self._device)

    @torch.no_grad()
    def __call__(self, rows: Batch, other: Tensor, progress: float, generator: torch.Generator) -> Batch:
        """``rows`` with latents and features.

        Args:
            rows: with pixels on the device, see `components.data.schema`.
            other: bool [b] on the device, which rows use another picture of their subject; only that one is encoded.
            generator: on the CPU, for the augmentation.
        """
        encoded = {}
        if "picture" in rows:
            pixels = _signed(rows["picture"]).to(self.vae.dtype)
            encoded["latents"] = self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor
        chosen = torch.where(other[:, None, None, None], rows["other_cutout"], rows["cutout"])
        boxes = torch.where(other[:, None], rows["other_face_box"], rows["face_box"])
        moves = to_device(sample_transforms(len(other), pose_range(progress, self.curriculum), generator), other.device)
        features = self.vision(move(_signed(chosen), moves).to(self.vision.dtype))
        face = transformed_faces(boxes, moves, self.vision.reference_size, self.vision.grid)
        found = {"deep": features.deep, "local": features.local, "face": face.float()}
        if features.shallow:
            found["shallow"] = torch.stack(features.shallow, 1)
        encoded |= found | {f"other_{name}": value for name, value in found.items()}
        return {name: value for name, value in rows.items() if value.dtype != torch.uint8} | encoded


def skip_transforms(rows: Batch, progress: float, curriculum: CurriculumConfig, generator: torch.Generator) -> Batch:
    """``rows`` whose chosen references were encoded before; ``generator`` moves on as if they were encoded here."""
    sample_transforms(len(rows["deep"]), pose_range(progress, curriculum), generator)
    names = [name for name in ("deep", "local", "face", "shallow") if name in rows]
    return rows | {f"other_{name}": rows[name] for name in names}


def sample_transforms(rows: int, most: PoseRange, generator: torch.Generator) -> Tensor:
    """Random affine maps [b, 2, 3] from the augmented to the original reference, in coordinates of -1 to 1.

    Angles, logarithms of scales, and shifts are uniform up to ``most``. If all are 0, the generator is not used.
    """
    if not any(most):
        return torch.eye(2, 3).repeat(rows, 1, 1)
    angle, grown, across, down = (2 * torch.rand(4, rows, generator=generator) - 1).unbind()
    angle = angle * math.radians(most.rotation)
    shrink = torch.exp(-grown * math.log1p(most.scale))
    cos, sin = shrink * angle.cos(), shrink * angle.sin()
    shifts = 2 * most.shift * torch.stack([across, down], 1)
    return torch.cat([torch.stack([cos, -sin, sin, cos], 1).view(rows, 2, 2), shifts[:, :, None]], 2)


def move(pixels: Tensor, moves: Tensor) -> Tensor:
    """Transform references [b, 3, r, r] in [-1, 1], with white outside."""
    grid = F.affine_grid(moves.to(pixels), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels - _WHITE, grid, mode="bilinear", align_corners=False) + _WHITE


def transformed_faces(boxes: Tensor, moves: Tensor, size: int, grid: int) -> Tensor:
    """The face group [b, n] of transformed references: patches whose centre is in the face box.

    Args:
        boxes: x0, y0, x1, y1 [b, 4] in pixels of the original references; a box without area means no face.
        size: side of the references in pixels.
        grid: patches on a side.
    """
    centres = F.affine_grid(moves, [len(boxes), 1, grid, grid], align_corners=False)
    x, y = ((centres.flatten(1, 2) + 1) * (size / 2)).unbind(-1)
    x0, y0, x1, y1 = (side[:, None] for side in boxes.float().unbind(1))
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)


def _signed(pixels: Tensor) -> Tensor:
    """uint8 [b, h, w, 3] as [b, 3, h, w] in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
