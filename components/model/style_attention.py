"""Cross-attention to text, to the pictures of an IP-Adapter, and to subjects under their masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from torch import Tensor, nn

from components.model.attention import SubjectAttnProcessor, SubjectContext, merge_heads, split_heads


class StyleSubjectAttnProcessor(IPAdapterAttnProcessor2_0):
    """diffusers' processor of an IP-Adapter with the vision branch of a `SubjectAttnProcessor`.

    ``out = to_out(Attn(q, K_text, V_text) + sum_i scale_i * Attn(q, K_i, V_i) + sum_s mask_s * Attn(q, K_s, V_s))``
    over the IP-Adapters i and the subjects s. It is one of diffusers' processors, so that `set_ip_adapter_scale`,
    `unload_ip_adapter` and the U-Net's state dict treat it as such.

    Args:
        style: the processor that diffusers has loaded; its parameters are used, not copied.
        subjects: the vision branch of the same layer.
    """

    def __init__(self, style: IPAdapterAttnProcessor2_0, subjects: SubjectAttnProcessor) -> None:
        nn.Module.__init__(self)
        self.hidden_size, self.cross_attention_dim = style.hidden_size, style.cross_attention_dim
        self.num_tokens, self.scale = style.num_tokens, style.scale
        self.to_k_ip, self.to_v_ip = style.to_k_ip, style.to_v_ip
        self.subjects = subjects

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, Sequence[Tensor]],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        scale: float = 1.0,
        ip_adapter_masks: Tensor | None = None,
        subject: SubjectContext | None = None,
    ) -> Tensor:
        everywhere = subject is None or subject.styled is None or all(subject.styled)
        if subject is None or (everywhere and not (subject.subjects or subject.recorder)):
            stock: Tensor = super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, scale, ip_adapter_masks
            )
            return stock
        text, pictures = encoder_hidden_states
        rows = None if everywhere or subject.styled is None else hidden_states.new_tensor(subject.styled)

        def add_style(out: Tensor, queries: Tensor) -> Tensor:
            return self._add_style(out, queries, pictures, rows, attn.heads)

        acts = subject.styled is None or any(subject.styled)
        return self.subjects(
            attn, hidden_states, text, attention_mask, temb, subject, beside_text=add_style if acts else None
        )

    def _add_style(
        self, out: Tensor, queries: Tensor, pictures: Sequence[Tensor], rows: Tensor | None, heads: int
    ) -> Tensor:
        """``out`` [b, q, c] plus the attention of ``queries`` [b, heads, q, c / heads] to the pictures' tokens.

        Args:
            pictures: tokens [b, pictures, n, d] of each IP-Adapter.
            rows: factor [b] of each row; None is 1.
        """
        for tokens, scale, to_k, to_v in zip(pictures, self.scale, self.to_k_ip, self.to_v_ip, strict=True):
            if scale == 0:
                continue
            keys, values = (split_heads(to(tokens.flatten(1, 2)), heads) for to in (to_k, to_v))
            added = scale * merge_heads(F.scaled_dot_product_attention(queries, keys, values)).to(out.dtype)
            out = out + (added if rows is None else added * rows[:, None, None])
        return out
