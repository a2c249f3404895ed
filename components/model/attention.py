"""Decoupled cross-attention, as diffusers attention processors (paper section 3.2).

``out = to_out(Attn(q, K_text, V_text) + sum_s mask_s * Attn(q, K_s, V_s))`` over the subjects s. The subjects are
passed with ``cross_attention_kwargs={"subject": SubjectContext(...)}``; without it every layer equals stock diffusers
bit for bit.

Shapes: b images, r rows with a subject, q queries of a layer, t text tokens, n vision tokens, w words, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from components.model.kv_cache import CachedRows, Tensors

#: Above this share of positions under the mask, gathering them costs more than it saves.
_DENSE = 0.75

#: (vision tokens [r, n, d], gain [r, n] or None) -> keys or None, and values, both [r, n, c].
KeyValueProjection = Callable[[Tensor, Tensor | None], tuple[Tensor | None, Tensor]]


@dataclass
class SubjectAttention:
    """Subjects with the same number of tokens in one or more U-Net calls, each in one row of the call.

    Args:
        tokens: projected vision tokens [r, n, d]. Attention to a single token equals its value, so n = 1 needs no keys.
        gain: scale [r, n] of each token's value, or None for 1 (face and body strength).
        mask: influence mask [r, 1, H, W], or None for 1 everywhere (as in training).
        rows: indices [r] of the call's rows in which the subjects act; several may act in one row. None means all rows
            in order.
        turns: sizes of consecutive parts of the r subjects, in none of which a row occurs twice; None is one part.
        cache: cached keys and values of the rows, for calls that repeat ``tokens`` and ``gain``.
    """

    tokens: Tensor
    gain: Tensor | None = None
    mask: Tensor | None = None
    rows: Tensor | None = None
    turns: tuple[int, ...] | None = None
    cache: CachedRows | None = None
    _layer_masks: dict[tuple[int, int], _LayerMask] = field(default_factory=dict, init=False)

    def layer_mask(self, size: tuple[int, int]) -> _LayerMask | None:
        """The mask at a layer's (height, width), with the positions at which it is not zero."""
        if self.mask is None:
            return None
        if size not in self._layer_masks:
            self._layer_masks[size] = _LayerMask.resize(self.mask, size, self.rows)
        return self._layer_masks[size]

    def resize_masks(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Compute the masks of all layer ``sizes`` outside the U-Net: their number of positions depends on the data."""
        for size in sizes:
            self.layer_mask(size)


@dataclass(frozen=True)
class _LayerMask:
    """Mask values of a layer's queries.

    Args:
        values: [r, q, 1], or [r, k, 1] of the k largest values of each row, the others being zero.
        positions: indices [r * k] of those k among all b * q queries; None if ``values`` holds every query.
    """

    values: Tensor
    positions: Tensor | None

    @classmethod
    def resize(cls, mask: Tensor, size: tuple[int, int], rows: Tensor | None) -> _LayerMask:
        flat = F.interpolate(mask, size, mode="bilinear", align_corners=False).flatten(1)
        count = int((flat > 0).sum(1).max())
        if count > _DENSE * flat.shape[1]:
            return cls(flat[..., None], None)
        values, positions = flat.topk(max(1, count), dim=1)
        rows = torch.arange(len(flat), device=flat.device) if rows is None else rows
        return cls(values[..., None], (positions + rows[:, None] * flat.shape[1]).flatten())


@dataclass
class AttentionRecorder:
    """Collects the cross-attention maps of given words during a U-Net call (paper section 3.3).

    Args:
        words: weights [b, t, w] of each word's tokens, for the last b rows of the call.
        layers: paths of the layers to record; None records all.
        self_attention_size: also record queries and keys of the self-attention layers of this (height, width).
        exit_early: end the call with `EarlyExit` once all ``layers`` are recorded: a text-only call has no other use.
    """

    words: Tensor
    layers: frozenset[str] | None = None
    self_attention_size: tuple[int, int] | None = None
    exit_early: bool = False
    #: Share of the attention that goes to each word, mean over heads: one [b, w, h, w'] a recorded layer.
    maps: list[Tensor] = field(default_factory=list)
    #: Queries and keys [b, heads, q, c / heads] of self-attention layers.
    self_attention: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def records(self, layer: str) -> bool:
        return self.layers is None or layer in self.layers

    def add_map(self, shares: Tensor) -> None:
        """Record one layer's [b, w, h, w'].

        Raises:
            EarlyExit: all layers are recorded, and ``exit_early`` is set.
        """
        self.maps.append(shares)
        if self.exit_early and self.layers is not None and len(self.maps) == len(self.layers):
            raise EarlyExit


class EarlyExit(Exception):
    """All attention maps that a text-only U-Net call was made for are recorded; the rest of the call is skipped."""


@dataclass
class SubjectContext:
    """The subject's part of one U-Net call, passed to every attention layer.

    Args:
        latent_size: (height, width) of the latents, from which every layer's resolution follows.
        subjects: the subjects that act; empty in a text-only call.
        recorder: collects the words' attention maps, if given.
        text_cache: cached keys and values of the text rows, for calls that repeat the same prompts.
        styled: the rows in which the pictures of IP-Adapters act; None is all.
    """

    latent_size: tuple[int, int]
    subjects: list[SubjectAttention] = field(default_factory=list)
    recorder: AttentionRecorder | None = None
    text_cache: CachedRows | None = None
    styled: tuple[bool, ...] | None = None


class VisionKeyValues(nn.Module):
    """The trained projections of one cross-attention layer: vision tokens to keys and values, without biases."""

    def __init__(self, context_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k_vision = nn.Linear(context_dim, inner_dim, bias=False)
        self.to_v_vision = nn.Linear(context_dim, inner_dim, bias=False)
        nn.init.zeros_(self.to_v_vision.weight)  # an untrained adapter changes nothing

    def forward(self, tokens: Tensor, gain: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Keys and values [r, n, c] of ``tokens`` [r, n, d]; no keys if n is 1. ``gain`` [r, n] scales the values."""
        values: Tensor = self.to_v_vision(tokens)
        if gain is not None:
            values = values * gain[..., None].to(tokens.dtype)
        keys: Tensor | None = self.to_k_vision(tokens) if tokens.shape[1] > 1 else None
        return keys, values


class SelfAttnProcessor(AttnProcessor2_0):
    """Stock self-attention that accepts a `SubjectContext` and records queries and keys for its recorder."""

    def __call__(  # type: ignore[no-untyped-def]
        self,
        attn: Attention,
        hidden_states: Tensor,
        *args: object,
        subject: SubjectContext | None = None,
        **kwargs: object,
    ):
        recorder = None if subject is None else subject.recorder
        if subject is not None and recorder is not None and recorder.self_attention_size is not None:
            size = layer_size(subject.latent_size, hidden_states.shape[1])
            if size == recorder.self_attention_size:
                rows = hidden_states[-len(recorder.words) :]
                query, key = attn.to_q(rows), attn.to_k(rows)
                recorder.self_attention.append((split_heads(query, attn.heads), split_heads(key, attn.heads)))
        return super().__call__(attn, hidden_states, *args, **kwargs)


class SubjectAttnProcessor:
    """Cross-attention with a vision branch.

    It calls the adapter's projections without registering them as submodules of the U-Net: the U-Net's state dict stays
    that of stock diffusers, and each parameter belongs to one component of a pipeline.

    Args:
        name: the layer's path in the U-Net, the cache key of its keys and values.
        key_values: the projection of this layer, such as `RealCustomAdapter.key_values`.
    """

    def __init__(self, name: str, key_values: KeyValueProjection) -> None:
        self.name, self.key_values, self.stock = name, key_values, AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        subject: SubjectContext | None = None,
        beside_text: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Attend to text and subjects.

        Args:
            beside_text: (output [b, q, c] of the attention to text, queries [b, heads, q, c / heads]) -> the output
                with what another branch adds to it.
        """
        if subject is None or not (subject.subjects or subject.recorder or beside_text):
            stock_output: Tensor = self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return stock_output
        assert encoder_hidden_states is not None, "cross-attention needs text"
        queries = attn.to_q(hidden_states)
        q = split_heads(queries, attn.heads)
        text = encoder_hidden_states

        def compute(rows: Sequence[int]) -> Tensors:
            selected = _select(text, rows)
            return split_heads(attn.to_k(selected), attn.heads), split_heads(attn.to_v(selected), attn.heads)

        k, v = _cached(subject.text_cache, self.name, len(text), compute)
        size = layer_size(subject.latent_size, q.shape[2])
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, k.shape[2], len(q))
            attention_mask = attention_mask.view(len(q), attn.heads, -1, attention_mask.shape[-1])
        if subject.recorder is not None and subject.recorder.records(self.name):
            out, shares = attention_with_word_shares(q, k, v, subject.recorder.words, attention_mask)
            subject.recorder.add_map(shares.transpose(1, 2).unflatten(2, size))
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        out = merge_heads(out)
        if beside_text is not None:
            out = beside_text(out, q)
        for attention in subject.subjects:
            out = self._add_subjects(out, queries, attention, attn.heads, size)
        out = out.to(q.dtype)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor

    def _add_subjects(
        self, out: Tensor, queries: Tensor, attention: SubjectAttention, heads: int, size: tuple[int, int]
    ) -> Tensor:
        """``out`` [b, q, c] plus the masked attention to the subjects' tokens."""
        keys, values = self._vision_key_values(attention, heads)
        mask, rows = attention.layer_mask(size), attention.rows
        positions = None if mask is None else mask.positions
        if keys is None:
            vision = values.expand(-1, out.shape[1] if mask is None else mask.values.shape[1], -1)
        else:
            if positions is not None:
                queries = queries.flatten(0, 1).index_select(0, positions).unflatten(0, (len(values), -1))
            elif rows is not None:
                queries = queries.index_select(0, rows)
            vision = merge_heads(F.scaled_dot_product_attention(split_heads(queries, heads), keys, values))
        if mask is not None:
            vision = vision * mask.values.to(vision.dtype)
        if positions is not None:
            added = vision.flatten(0, 1).to(out.dtype)
            per_row = vision.shape[1]
            turns = None if attention.turns is None else [turn * per_row for turn in attention.turns]
            return _add_in_turns(out.flatten(0, 1), positions, added, turns).view_as(out)
        return out + vision if rows is None else _add_in_turns(out, rows, vision.to(out.dtype), attention.turns)

    def _vision_key_values(self, attention: SubjectAttention, heads: int) -> tuple[Tensor | None, Tensor]:
        """Keys and values [r, heads, n, c / heads]; of single tokens no keys, and values [r, 1, c]."""

        def compute(rows: Sequence[int]) -> Tensors:
            gain = None if attention.gain is None else _select(attention.gain, rows)
            keys, values = self.key_values(_select(attention.tokens, rows), gain)
            return (values,) if keys is None else (split_heads(keys, heads), split_heads(values, heads))

        *keys, values = _cached(attention.cache, self.name, len(attention.tokens), compute)
        return keys[0] if keys else None, values


def _add_in_turns(out: Tensor, rows: Tensor, added: Tensor, turns: Sequence[int] | None) -> Tensor:
    """``out`` with ``added`` at ``rows``, in parts of ``turns`` rows, none of which holds a row twice.

    The order in which a GPU adds to a row that is indexed twice is not determined.
    """
    if turns is None:
        return out.index_add(0, rows, added)
    for some, part in zip(rows.split(list(turns)), added.split(list(turns)), strict=True):
        out = out.index_add(0, some, part)
    return out


def attention_with_word_shares(
    q: Tensor, k: Tensor, v: Tensor, words: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention, and the share [b', q, w] of it that goes to each word, mean over heads.

    A word's share is the attention's output for values that are 1 on the word's tokens and 0 elsewhere, so the words
    are appended as value channels, and no other token's map is ever materialised. Queries and keys are padded with
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


def level_sizes(latent_size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """The (height, width) of each of a U-Net's ``levels``, from the largest to the smallest."""
    sizes = [latent_size]
    while len(sizes) < levels:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[b, l, c] -> [b, heads, l, c / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[b, heads, l, c / heads] -> [b, l, c]."""
    return x.transpose(1, 2).flatten(2)


def _cached(cached: CachedRows | None, layer: str, count: int, compute: Callable[[Sequence[int]], Tensors]) -> Tensors:
    """The tensors that ``compute`` returns for all ``count`` rows; rows found in the cache are not computed."""
    return compute(range(count)) if cached is None else cached.cache.get(layer, cached.keys, compute)


def _select(x: Tensor, rows: Sequence[int]) -> Tensor:
    """The given rows of ``x``, without a copy if they are all of them."""
    return x if len(rows) == len(x) else x[list(rows)]
