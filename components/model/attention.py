"""Decoupled cross-attention, as diffusers attention processors (paper section 3.2).

``out = to_out(Attn(q, K_text, V_text) + mask * Attn(q, K_vision, V_vision))``. The subject travels with
``cross_attention_kwargs={"subject": SubjectContext(...)}``; without it every layer is stock diffusers, bit for bit.

Shapes: b pictures, q queries of a layer, t text tokens, n vision tokens, c channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


@dataclass
class SubjectContext:
    """What one U-Net call is told about the subject.

    Args:
        latent_size: (height, width) of the latents, from which every layer's resolution follows.
        tokens: projected vision tokens [b, n, d], or None for a text-only pass.
        mask: influence mask [b, 1, H, W], or None for 1 everywhere (as in training).
        word: weights [b, t] of the target word's tokens; if given, each layer's map of the word is collected.
        layer_cache: vision keys and values by layer, kept by whoever reuses ``tokens`` over several calls.
    """

    latent_size: tuple[int, int]
    tokens: Tensor | None = None
    mask: Tensor | None = None
    word: Tensor | None = None
    maps: list[Tensor] = field(default_factory=list)
    layer_cache: dict[str, tuple[Tensor, Tensor]] | None = None


class VisionAttention(nn.Module):
    """The trained part of one cross-attention layer: keys and values of the vision tokens."""

    def __init__(self, context_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k_vision = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_v_vision = nn.Linear(context_dim, inner_dim, bias=False)
        nn.init.zeros_(self.to_v_vision.weight)  # an untrained adapter changes nothing


class SelfAttnProcessor(AttnProcessor2_0):
    """Stock self-attention that lets the subject pass by."""

    def __call__(self, attn: Attention, hidden_states: Tensor, *args: object, subject: object = None, **kwargs: object):  # type: ignore[no-untyped-def]
        return super().__call__(attn, hidden_states, *args, **kwargs)


class SubjectAttnProcessor:
    """Cross-attention with a vision branch. It refers to ``layer`` without owning it: the U-Net stays a stock U-Net."""

    def __init__(self, name: str, layer: VisionAttention) -> None:
        self.name, self.layer, self.stock = name, layer, AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        subject: SubjectContext | None = None,
    ) -> Tensor:
        if subject is None or (subject.tokens is None and subject.word is None):
            stocked: Tensor = self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return stocked
        assert encoder_hidden_states is not None, "cross-attention needs text"
        q, k, v = (
            _heads(x, attn.heads)
            for x in (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        )
        size = layer_size(subject.latent_size, q.shape[2])
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, k.shape[2], len(q))
            attention_mask = attention_mask.view(len(q), attn.heads, -1, attention_mask.shape[-1])
        if subject.word is None:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        else:
            out, word_map = _attend_and_watch(q, k, v, subject.word, attention_mask)
            subject.maps.append(word_map.unflatten(1, size))
        if subject.tokens is not None:
            vision_k, vision_v = self._vision(subject, attn.heads)
            vision = F.scaled_dot_product_attention(q, vision_k, vision_v)
            if subject.mask is not None:
                mask = F.interpolate(subject.mask, size, mode="bilinear", align_corners=False)
                vision = vision * mask.flatten(2)[..., None].to(vision.dtype)
            out = out + vision
        out = out.transpose(1, 2).flatten(2).to(q.dtype)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor

    def _vision(self, subject: SubjectContext, heads: int) -> tuple[Tensor, Tensor]:
        cache = subject.layer_cache
        if cache is not None and self.name in cache:
            return cache[self.name]
        tokens = subject.tokens
        assert tokens is not None
        pair = _heads(self.layer.to_k_vision(tokens), heads), _heads(self.layer.to_v_vision(tokens), heads)
        if cache is not None:
            cache[self.name] = pair
        return pair


def layer_size(latent_size: tuple[int, int], queries: int) -> tuple[int, int]:
    """The (height, width) of a U-Net level with ``queries`` positions: halved, rounding up, from ``latent_size``."""
    height, width = latent_size
    while height * width > queries:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != queries:
        raise ValueError(f"no level of latents {latent_size} has {queries} positions")
    return height, width


def _heads(x: Tensor, heads: int) -> Tensor:
    """[b, l, c] -> [b, heads, l, c / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend_and_watch(
    q: Tensor, k: Tensor, v: Tensor, word: Tensor, attention_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention, and the share [b, q] of it that goes to the word's tokens, mean over heads.

    The share is the attention's output for values that are 1 on the word and 0 elsewhere, so it rides along as one
    more value channel and no other word's map is ever held.
    """
    column = word.to(v.dtype)[:, None, :, None].expand(-1, v.shape[1], -1, 1)
    both = F.scaled_dot_product_attention(q, k, torch.cat([v, column], -1), attn_mask=attention_mask)
    return both[..., :-1], both[..., -1].mean(1)
