"""The cross-layer cross-scale projector: reference features to the vision tokens that the U-Net attends to.

Paper section 3.2. Parameter names are those of the authors' release. The projector does not depend on the timestep, so
it runs once per reference.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from components.model.vision import VisionFeatures


class CrossAttention(nn.Module):
    """Multi-head attention with normalised inputs, no biases and no output projection."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """``queries`` [b, n, d] attend to ``context`` [b, m, d]; returns [b, n, d]."""
        queries, context = self.norm1(queries), self.norm2(context)
        q, k, v = (self._heads(x) for x in (self.to_q(queries), self.to_k(context), self.to_v(context)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class CrossScaleProjector(nn.Module):
    """Global tokens fetch what only the finer local views show; the sum goes to the U-Net.

    ``linear(deep) + mlp(attention(deep, local))``: [b, n, d] and [b, 4 n, d] to [b, n, out].
    """

    def __init__(self, channels: int, out_channels: int, head_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.min_attention = CrossAttention(channels, head_dim)
        self.projector = nn.Sequential(
            nn.Linear(channels, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, out_channels),
            nn.GELU(),
            nn.Linear(out_channels, out_channels),
            nn.LayerNorm(out_channels),
        )
        self.projector_base = nn.Linear(channels, out_channels)

    def forward(self, features: VisionFeatures) -> Tensor:
        fused: Tensor = self.projector(self.min_attention(features.deep, features.local))
        return fused + self.projector_base(features.deep)
