"""Decoupled cross-attention, as diffusers attention processors (paper section 3.2).

``out = to_out(Attn(q, K_text, V_text) + sum_s mask_s * Attn(q, K_s, V_s))`` over the subjects s. The subjects travel
with ``cross_attention_kwargs={"subject": SubjectContext(...)}``; without it every layer is stock diffusers, bit for
bit.

Shapes: b pictures, q queries of a layer, t text tokens, n vision tokens, w watched words, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from components.model.kv_cache import CachedRows, Tensors

#: Above this share of positions under the mask, picking them out costs more than it saves.
_DENSE = 0.75


@dataclass
class SubjectAttention:
    """What subjects with equally many tokens do in one or more U-Net calls, each in a row of the call.

    Args:
        tokens: projected vision tokens [r, n, d]. Attention to one token is that token's value, so n = 1 costs next to
            nothing.
        gain: scale [r, n] of each token's value, or None for 1 (face and body strength).
        mask: influence mask [r, 1, H, W], or None for 1 everywhere (as in training).
        rows: the call's rows [r] in which they act, several in the same one if need be; None: all rows, in order.
        keep: for whoever reuses tokens and gain over several calls.
    """

    tokens: Tensor
    gain: Tensor | None = None
    mask: Tensor | None = None
    rows: Tensor | None = None
    keep: CachedRows | None = None
    _resized: dict[tuple[int, int], _LayerMask] = field(default_factory=dict, init=False)

    def layer_mask(self, size: tuple[int, int]) -> _LayerMask | None:
        """The mask at a layer's (height, width), with the positions that it leaves to the subjects."""
        if self.mask is None:
            return None
        if size not in self._resized:
            self._resized[size] = _LayerMask.of(self.mask, size, self.rows)
        return self._resized[size]


@dataclass(frozen=True)
class _LayerMask:
    """Mask values of a layer's queries.

    Args:
        values: [r, q, 1], or [r, k, 1] of the k positions picked out for each, the rest being zero.
        positions: where those lie among all b * q queries, [r * k]; None where none are picked out.
    """

    values: Tensor
    positions: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, size: tuple[int, int], rows: Tensor | None) -> _LayerMask:
        flat = F.interpolate(mask, size, mode="bilinear", align_corners=False).flatten(1)
        count = int((flat > 0).sum(1).max())
        if count > _DENSE * flat.shape[1]:
            return cls(flat[..., None], None)
        values, positions = flat.topk(max(1, count), dim=1)
        rows = torch.arange(len(flat), device=flat.device) if rows is None else rows
        return cls(values[..., None], (positions + rows[:, None] * flat.shape[1]).flatten())


@dataclass
class AttentionRecorder:
    """Which words' attention is collected on the way through the U-Net, and what was collected.

    Args:
        words: weights [b, t, w] of each word's tokens, b being the last rows of the call.
        layers: only these layers are watched; None watches all.
        self_size: also keep queries and keys of the self-attention layers of this (height, width).
        stops: the call ends with `EarlyExit` once all ``layers`` have been seen. A text-only pass needs nothing more.
    """

    words: Tensor
    layers: frozenset[str] | None = None
    self_size: tuple[int, int] | None = None
    stops: bool = False
    #: Share of the attention that goes to each word, mean over heads: one [b, w, h, w'] a watched layer.
    maps: list[Tensor] = field(default_factory=list)
    #: Queries and keys [b, heads, q, c / heads] of self-attention layers.
    self_attention: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def watches(self, layer: str) -> bool:
        return self.layers is None or layer in self.layers

    def keep(self, shares: Tensor) -> None:
        """Take one layer's [b, w, h, w'].

        Raises:
            AllSeen: it was the last one that was wanted, and ``stops`` is set.
        """
        self.maps.append(shares)
        if self.stops and self.layers is not None and len(self.maps) == len(self.layers):
            raise EarlyExit


class EarlyExit(Exception):
    """A U-Net call was made for its attention maps alone, and these are complete: the rest of it would be wasted."""


@dataclass
class SubjectContext:
    """What one U-Net call is told about its subjects.

    Args:
        latent_size: (height, width) of the latents, from which every layer's resolution follows.
        influences: the subjects that act; none in a text-only pass.
        watch: collects words' attention, if given.
        keep_text: for whoever repeats the same prompts.
    """

    latent_size: tuple[int, int]
    influences: list[SubjectAttention] = field(default_factory=list)
    watch: AttentionRecorder | None = None
    keep_text: CachedRows | None = None


class VisionAttention(nn.Module):
    """The trained part of one cross-attention layer: keys and values of the vision tokens."""

    def __init__(self, context_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k_vision = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_v_vision = nn.Linear(context_dim, inner_dim, bias=False)
        nn.init.zeros_(self.to_v_vision.weight)  # an untrained adapter changes nothing


class SelfAttnProcessor(AttnProcessor2_0):
    """Stock self-attention that lets the subject pass by, and a watcher look on."""

    def __call__(  # type: ignore[no-untyped-def]
        self,
        attn: Attention,
        hidden_states: Tensor,
        *args: object,
        subject: SubjectContext | None = None,
        **kwargs: object,
    ):
        watch = None if subject is None else subject.watch
        if subject is not None and watch is not None and watch.self_size is not None:
            height, width = watch.self_size
            if layer_size(subject.latent_size, hidden_states.shape[1]) == (height, width):
                seen = hidden_states[-len(watch.words) :]
                watch.self_attention.append((_heads(attn.to_q(seen), attn.heads), _heads(attn.to_k(seen), attn.heads)))
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
        if subject is None or not (subject.influences or subject.watch):
            stocked: Tensor = self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return stocked
        assert encoder_hidden_states is not None, "cross-attention needs text"
        queries = attn.to_q(hidden_states)
        q = _heads(queries, attn.heads)
        text = encoder_hidden_states

        def compute(rows: Sequence[int]) -> Tensors:
            own = _picked(text, rows)
            return _heads(attn.to_k(own), attn.heads), _heads(attn.to_v(own), attn.heads)

        k, v = _kept(subject.keep_text, self.name, len(text), compute)
        size = layer_size(subject.latent_size, q.shape[2])
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, k.shape[2], len(q))
            attention_mask = attention_mask.view(len(q), attn.heads, -1, attention_mask.shape[-1])
        if subject.watch is not None and subject.watch.watches(self.name):
            out, shares = attend_and_watch(q, k, v, subject.watch.words, attention_mask)
            subject.watch.keep(shares.transpose(1, 2).unflatten(2, size))
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        out = _merge(out)
        for influence in subject.influences:
            out = self._influenced(out, queries, influence, attn.heads, size)
        out = out.to(q.dtype)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor

    def _influenced(
        self, out: Tensor, queries: Tensor, influence: SubjectAttention, heads: int, size: tuple[int, int]
    ) -> Tensor:
        """``out`` [b, q, c] with the subjects' attention added where their masks let it."""
        keys, values = self._vision(influence, heads)
        mask, rows = influence.layer_mask(size), influence.rows
        positions = None if mask is None else mask.positions
        if keys is None:
            seen = values.expand(-1, out.shape[1] if mask is None else mask.values.shape[1], -1)
        else:
            if positions is not None:
                queries = queries.flatten(0, 1).index_select(0, positions).unflatten(0, (len(values), -1))
            elif rows is not None:
                queries = queries.index_select(0, rows)
            seen = _merge(F.scaled_dot_product_attention(_heads(queries, heads), keys, values))
        if mask is not None:
            seen = seen * mask.values.to(seen.dtype)
        if positions is not None:
            return out.flatten(0, 1).index_add(0, positions, seen.flatten(0, 1).to(out.dtype)).view_as(out)
        return out + seen if rows is None else out.index_add(0, rows, seen.to(out.dtype))

    def _vision(self, influence: SubjectAttention, heads: int) -> tuple[Tensor | None, Tensor]:
        """Keys and values [r, heads, n, c / heads]; of single tokens no keys, and values [r, 1, c]."""

        def compute(rows: Sequence[int]) -> Tensors:
            tokens, gain = _picked(influence.tokens, rows), influence.gain
            values: Tensor = self.layer.to_v_vision(tokens)
            if gain is not None:
                values = values * _picked(gain, rows)[..., None].to(tokens.dtype)
            if tokens.shape[1] == 1:
                return (values,)
            return _heads(self.layer.to_k_vision(tokens), heads), _heads(values, heads)

        *keys, values = _kept(influence.keep, self.name, len(influence.tokens), compute)
        return keys[0] if keys else None, values


def attend_and_watch(
    q: Tensor, k: Tensor, v: Tensor, words: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention, and the share [b', q, w] of it that goes to each word, mean over heads.

    A word's share is the attention's output for values that are 1 on the word's tokens and 0 elsewhere, so the words
    ride along as further value channels, and no other token's map is ever held. Queries and keys are padded with
    zeros to the same width, which changes no product and keeps the fused kernels.

    Args:
        q, k, v: [b, heads, length, c].
        words: weights [b', t, w], for the last b' of the b rows.
    """
    width, count = q.shape[-1], words.shape[-1]
    extra = -(-count // 8) * 8
    columns = v.new_zeros(*v.shape[:-1], extra)
    columns[-len(words) :, ..., :count] = words[:, None].to(v.dtype)
    both = F.scaled_dot_product_attention(
        F.pad(q, (0, extra)),
        F.pad(k, (0, extra)),
        torch.cat([v, columns], -1),
        attn_mask=attention_mask,
        scale=width**-0.5,
    )
    return both[..., :width], both[-len(words) :, ..., width : width + count].mean(1)


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


def _merge(x: Tensor) -> Tensor:
    """[b, heads, l, c / heads] -> [b, l, c]."""
    return x.transpose(1, 2).flatten(2)


def _kept(keep: CachedRows | None, layer: str, count: int, compute: Callable[[Sequence[int]], Tensors]) -> Tensors:
    """What ``compute`` says of all ``count`` rows, computing only what is not kept."""
    return compute(range(count)) if keep is None else keep.where.get(layer, keep.names, compute)


def _picked(x: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows of ``x``, without a copy if they are all."""
    return x if len(rows) == len(x) else x[list(rows)]
