"""The cross-layer cross-scale projector: reference features to the vision tokens that the U-Net attends to.

Paper section 3.2. Parameter names are those of the authors' release. The projector does not depend on the timestep, so
it runs once per reference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.config import AdapterConfig
from components.errors import ArtifactError
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


class LearnedScale(nn.Module):
    """One learned number that multiplies its input."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.value * x


class CrossScaleProjector(nn.Module):
    """Global tokens attend to the local views; the result is added to a linear projection (paper section 3.2).

    ``linear(deep) + scale * mlp(attention(deep, local))``: [b, n, d] and [b, 4 n, d] to [b, n, out].

    Args:
        channels: d.
        out_channels: width of the U-Net's text context.
        config: head and hidden width, and whether the scale is learned (otherwise it is 1).
    """

    def __init__(self, channels: int, out_channels: int, config: AdapterConfig) -> None:
        super().__init__()
        self.min_attention = CrossAttention(channels, config.head_dim)
        self.projector = _mlp(channels, config.hidden_dim, out_channels)
        self.projector_base = nn.Linear(channels, out_channels)
        if config.adaptive_scale:
            self.scale_value = LearnedScale()

    def forward(self, features: VisionFeatures) -> Tensor:
        return self.across_scales(features) + self.projector_base(features.deep)

    def across_scales(self, features: VisionFeatures) -> Tensor:
        """The contribution of the local views, [b, n, out]."""
        fused: Tensor = self.projector(self.min_attention(features.deep, features.local))
        return self.scale_value(fused) if hasattr(self, "scale_value") else fused


class ShallowProjector(CrossScaleProjector):
    """As `CrossScaleProjector`, with as many additional tokens that attend to earlier blocks of the encoders.

    ``[linear(deep) + mlp(attention(deep, local)), mlp2(attention2(deep, shallow))]``: [b, 2 n, out]. The released code
    computes the second summand and drops it: ``shallow_fusion="code"``.
    """

    def __init__(self, channels: int, out_channels: int, config: AdapterConfig) -> None:
        super().__init__(channels, out_channels, config)
        self.fusion = config.shallow_fusion
        self.min_attention2 = CrossAttention(channels, config.head_dim)
        self.projector2 = _mlp(channels, config.hidden_dim, out_channels)

    def forward(self, features: VisionFeatures) -> Tensor:
        """[b, 2 n, out], see the class.

        Raises:
            ArtifactError: the features have no shallow blocks.
        """
        if not features.shallow:
            raise ArtifactError(
                "this adapter reads shallow features: set vision.siglip_shallow and vision.dinov2_shallow "
                "(the authors' are [7, 13, 19] and [4, 10, 16])"
            )
        deep = self.projector_base(features.deep)
        if self.fusion == "figure":
            deep = deep + self.across_scales(features)
        shallow = self.projector2(self.min_attention2(features.deep, torch.cat(features.shallow, dim=1)))
        return torch.cat([deep, shallow], dim=1)


class GlobalProjector(nn.Module):
    """A projection without the cross-scale part: ``linear(deep)``, [b, n, d] to [b, n, out]."""

    def __init__(self, channels: int, out_channels: int, config: AdapterConfig) -> None:
        super().__init__()
        self.projector_base = nn.Linear(channels, out_channels)

    def forward(self, features: VisionFeatures) -> Tensor:
        tokens: Tensor = self.projector_base(features.deep)
        return tokens


_KINDS: dict[str, type[CrossScaleProjector | GlobalProjector]] = {
    "highres": CrossScaleProjector,
    "shallow": ShallowProjector,
    "global": GlobalProjector,
}


def build_projector(channels: int, out_channels: int, config: AdapterConfig) -> CrossScaleProjector | GlobalProjector:
    """The projector that ``config`` names."""
    return _KINDS[config.projector](channels, out_channels, config)


def _mlp(channels: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, hidden),
        nn.GELU(),
        nn.Linear(hidden, out),
        nn.GELU(),
        nn.Linear(out, out),
        nn.LayerNorm(out),
    )
