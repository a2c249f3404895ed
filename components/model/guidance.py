"""Adaptive mask guidance: from the cross-attention of the target word to the mask in which the subject may act.

Paper section 3.3. Shapes: b pictures, (h, w) a layer's resolution, (H, W) the mask's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from components.config import GuidanceConfig

Norm = Literal["none", "max_norm", "min_max_norm", "min_max_per_channel"]
SelfNorm = Literal["none", "max_norm", "min_max_per_channel"]
_EPSILON = 1e-6


@dataclass(frozen=True)
class MaskGuidance:
    """How maps become a mask.

    Args:
        norm: ``max_norm`` divides the layers' mean by its maximum, ``min_max_norm`` stretches it to [0, 1],
            ``min_max_per_channel`` stretches every layer before the mean too.
        scope: share of the positions that stay (with ``threshold``: values of at least ``1 - scope`` stay).
        threshold: keep by value instead of by rank.
        binary: set what stays to 1. The paper finds continuous values better.
        quantity: multiplies the mask (the paper's is 1).
        steps: this many steps find a mask; later ones reuse the last.
        layers: read only cross-attention layers whose path starts with one of these; none named reads all.
        self_attention: spread the map along the self-attention of the mask's resolution.
        source: read the maps in a text-only pass of their own (``separate``, the paper's), or in the guided pass of
            the step before (``conditional``), which costs no pass.
        absent: what unconditional rows attend to in place of the subject: ``all`` tokens of a black picture, as the
            authors do, or their ``mean``, a single token and so a constant.
    """

    norm: Norm = "min_max_per_channel"
    scope: float = 0.25
    threshold: bool = False
    binary: bool = False
    quantity: float = 1.0
    steps: int = 12
    layers: tuple[str, ...] = ()
    self_attention: bool = False
    source: Literal["separate", "conditional"] = "separate"
    absent: Literal["all", "mean"] = "all"

    @classmethod
    def of(cls, config: GuidanceConfig) -> MaskGuidance:
        """As configured."""
        return cls(**config.model_dump())

    def merge(
        self,
        maps: Sequence[Tensor],
        size: tuple[int, int],
        self_maps: Sequence[Tensor] | None = None,
        self_norm: SelfNorm = "none",
    ) -> Tensor:
        """The normalised mean of the layers' maps, [b, 1, H, W]: the influence quantity everywhere.

        Args:
            maps: the word's cross-attention, one [b, h, w] a layer.
            size: (H, W).
            self_maps: self-attention, one [b, heads, h w, h w] a layer, along which the mean is spread before it is
                normalised (as the authors do it, not at all with norm ``none``).
            self_norm: how each head's self-attention is normalised first (``max_norm``: by the maximum of all).
        """
        resized = [F.interpolate(m[:, None].float(), size, mode="bilinear", align_corners=False) for m in maps]
        layers = torch.cat(resized, dim=1)
        if self.norm == "min_max_per_channel":
            layers = _stretch(layers)
        merged = layers.mean(1, keepdim=True)
        if self.norm == "none":
            return merged
        if self_maps:
            merged = _spread(merged, self_maps, self_norm)
        if self.norm == "max_norm":
            return merged / (merged.amax((-2, -1), keepdim=True) + _EPSILON)
        return _stretch(merged)

    def select(self, quantity: Tensor) -> Tensor:
        """Zero every position outside the influence scope."""
        if self.threshold:
            kept = (quantity >= 1 - self.scope) & (quantity > 0)
        else:
            flat = quantity.flatten(1)
            count = max(1, int(flat.shape[1] * self.scope))
            top = flat.topk(count, dim=1).indices
            kept = torch.zeros_like(flat, dtype=torch.bool).scatter(1, top, True).view_as(quantity)
        return kept.to(quantity.dtype) if self.binary else quantity * kept


def refine(quantity: Tensor, self_attention: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Spread ``quantity`` [b * w, 1, H, W] along self-attention: the mean over layers and heads of ``S @ quantity``.

    Every layer's ``S`` [H W, H W] is applied without being held: the map is one channel of the attention's values.

    Args:
        self_attention: queries and keys [b, heads, H W, c] of the layers at the mask's resolution.

    Raises:
        ValueError: no layer works at that resolution.
    """
    if not self_attention:
        raise ValueError("guidance.self_attention: no self-attention layer works at the mask's resolution")
    height, width = quantity.shape[-2:]
    batch = len(self_attention[0][0])
    words = quantity.view(batch, -1, height * width).transpose(1, 2)
    spread = torch.zeros_like(words)
    for q, k in self_attention:
        pad = max(0, q.shape[-1] - words.shape[-1])
        values = F.pad(words, (0, pad))[:, None].expand(-1, q.shape[1], -1, -1)
        spread += F.scaled_dot_product_attention(q, k, values.to(q.dtype))[..., : words.shape[-1]].mean(1)
    return _stretch((spread / len(self_attention)).transpose(1, 2).reshape(quantity.shape))


def resolve_overlaps(masks: Tensor) -> Tensor:
    """Give every position of [b, s, H, W] to the one subject whose influence is largest there."""
    if masks.shape[1] == 1:
        return masks
    owner = masks.argmax(1, keepdim=True)
    return torch.zeros_like(masks).scatter(1, owner, masks.gather(1, owner))


def _spread(quantity: Tensor, self_maps: Sequence[Tensor], norm: SelfNorm) -> Tensor:
    """``S @ quantity``, S being the mean over all heads of all layers at ``quantity``'s resolution."""
    positions = quantity[0].numel()
    heads = torch.cat([F.interpolate(m.float(), (positions, positions), mode="bilinear") for m in self_maps], dim=1)
    if norm == "min_max_per_channel":
        heads = _stretch(heads)
    if norm == "max_norm":
        heads = heads / (heads.amax((1, 2, 3), keepdim=True) + _EPSILON)
    return (heads.mean(1) @ quantity.flatten(2).mT).mT.view_as(quantity)


def _stretch(maps: Tensor) -> Tensor:
    """Min-max over the positions of each channel of [b, c, H, W]."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + _EPSILON)
