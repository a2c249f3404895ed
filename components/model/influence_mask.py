"""Adaptive mask guidance: the influence mask of a subject from the cross-attention maps of its word.

Paper section 3.3, configured by `components.config.GuidanceConfig`. The *influence quantity* is the normalised mean of
the word's maps over all layers; the *influence scope* is the share of positions that is kept.

Shapes: b images, (h, w) a layer's resolution, (H, W) the mask's resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Norm = Literal["max_norm", "min_max_norm", "min_max_per_channel"]
_EPSILON = 1e-6


def average_maps(maps: Sequence[Tensor], size: tuple[int, int], norm: Norm | None) -> Tensor:
    """The mean over the layers of the word's cross-attention maps, [b, 1, H, W].

    Args:
        maps: one [b, h, w] a layer, resized bilinearly to ``size``.
        size: (H, W).
        norm: ``min_max_per_channel`` maps each layer to [0, 1] before the mean.
    """
    resized = [F.interpolate(m[:, None].float(), size, mode="bilinear", align_corners=False) for m in maps]
    layers = torch.cat(resized, dim=1)
    if norm == "min_max_per_channel":
        layers = min_max(layers)
    return layers.mean(1, keepdim=True)


def normalize(average: Tensor, norm: Norm) -> Tensor:
    """The influence quantity [b, 1, H, W]: ``average`` divided by its maximum, or mapped to [0, 1]."""
    if norm == "max_norm":
        return average / (average.amax((-2, -1), keepdim=True) + _EPSILON)
    return min_max(average)


def confine(average: Tensor, region: Tensor) -> Tensor:
    """``average`` [b, 1, H, W] with its least value inside ``region`` (bool, of the same shape) everywhere outside."""
    least = average.masked_fill(~region, torch.inf).amin((-2, -1), keepdim=True)
    return torch.where(region, average, least)


def select_scope(quantity: Tensor, scope: float, binary: bool = False) -> Tensor:
    """The influence mask [b, 1, H, W]: ``quantity`` at its largest positions, 0 elsewhere.

    Args:
        scope: share of the positions that are kept, at least one position.
        binary: set the kept positions to 1.
    """
    flat = quantity.flatten(1)
    count = max(1, int(flat.shape[1] * scope))
    top = flat.topk(count, dim=1).indices
    kept = torch.zeros_like(flat, dtype=torch.bool).scatter(1, top, True).view_as(quantity)
    return kept.to(quantity.dtype) if binary else quantity * kept


def multiply_self_attention(average: Tensor, self_attention: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """``S @ average`` for ``average`` [b * w, 1, H, W]: the mean over layers and heads of the self-attention maps S.

    No S [H W, H W] is materialised: the map is one channel of the attention's values.

    Args:
        self_attention: queries and keys [b, heads, H W, c] of the layers at the mask's resolution.

    Raises:
        ValueError: no layer has that resolution.
    """
    if not self_attention:
        raise ValueError("guidance.self_attention: no self-attention layer works at the mask's resolution")
    height, width = average.shape[-2:]
    batch = len(self_attention[0][0])
    words = average.view(batch, -1, height * width).transpose(1, 2)
    product = torch.zeros_like(words)
    for q, k in self_attention:
        pad = max(0, q.shape[-1] - words.shape[-1])
        values = F.pad(words, (0, pad))[:, None].expand(-1, q.shape[1], -1, -1)
        product += F.scaled_dot_product_attention(q, k, values.to(q.dtype))[..., : words.shape[-1]].mean(1)
    return (product / len(self_attention)).transpose(1, 2).reshape(average.shape)


def resolve_overlaps(masks: Tensor) -> Tensor:
    """Masks [b, s, H, W] in which each position belongs to the one subject with the largest influence there."""
    if masks.shape[1] == 1:
        return masks
    owner = masks.argmax(1, keepdim=True)
    return torch.zeros_like(masks).scatter(1, owner, masks.gather(1, owner))


def min_max(maps: Tensor) -> Tensor:
    """Each channel of [b, c, H, W] mapped to [0, 1] over its positions."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + _EPSILON)
