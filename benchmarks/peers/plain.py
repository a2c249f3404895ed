"""The paper's schedule without optimizations: three U-Net calls with one prompt each in each step, without caches.

A text-only call computes the mask (in the first `GuidanceConfig.steps` steps), one call predicts with the reference,
one with a black image. Every call projects its features, computes text and vision keys and values, and holds the
float32 attention maps of all words, heads and layers, as the authors' code does. Faster implementations are
compared with its results.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from benchmarks.peers.inputs import DenoisingInputs, Implementation, denoise, share_weights
from components.model.attention import VisionKeyValues, layer_size
from components.model.text import TextFeatures
from components.model.vision import VisionFeatures

_EPSILON = 1e-6


@dataclass
class _Call:
    """State shared by the layers of one U-Net call: the subject's inputs, and the recorded maps [b, heads, t, h, w]."""

    latent_size: tuple[int, int]
    tokens: Tensor | None = None
    mask: Tensor | None = None
    maps: list[Tensor] = field(default_factory=list)


class PlainAttnProcessor:
    """Cross-attention by explicit softmax, plus masked attention to the vision tokens."""

    def __init__(self, layer: VisionKeyValues) -> None:
        self.layer = layer
        self.call: _Call | None = None

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object) -> Tensor:
        assert self.call is not None

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        q, k, v = heads(attn.to_q(hidden_states)), *(heads(p(encoder_hidden_states)) for p in (attn.to_k, attn.to_v))
        size = layer_size(self.call.latent_size, q.shape[2])
        shares = (q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        self.call.maps.append(shares.transpose(-1, -2).unflatten(-1, size))
        out = shares.to(v.dtype) @ v
        if self.call.tokens is not None:
            assert self.call.mask is not None
            vision = (self.layer.to_k_vision(self.call.tokens), self.layer.to_v_vision(self.call.tokens))
            mask = F.interpolate(self.call.mask, size, mode="bilinear", align_corners=False).flatten(2)[..., None]
            out = out + mask.to(v.dtype) * F.scaled_dot_product_attention(q, *(heads(x) for x in vision))
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))


class PlainPredictor:
    """The guided noise prediction; ``mask`` [b, 1, H, W] is the last one computed."""

    def __init__(self, inputs: DenoisingInputs) -> None:
        if inputs.guidance.norm != "min_max_per_channel":
            raise ValueError("the plain schedule knows guidance.norm=min_max_per_channel only")
        self.inputs, self.unet = inputs, share_weights(inputs.unet)
        self.mask: Tensor | None = None
        processors: dict[str, object] = {}
        for name in self.unet.attn_processors:
            layer = (
                inputs.adapter.layers[name.removesuffix(".processor").replace(".", "/")] if "attn2" in name else None
            )
            processors[name] = AttnProcessor2_0() if layer is None else PlainAttnProcessor(layer)
        self._layers = [p for p in processors.values() if isinstance(p, PlainAttnProcessor)]
        self.unet.set_attn_processor(processors)  # empties the dictionary

    def __call__(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        inputs = self.inputs
        if step < inputs.guidance.steps or self.mask is None:
            _, maps = self._predict(latents, timestep, inputs.prompt, None)
            self.mask = self._find_mask(maps)
        conditional, _ = self._predict(latents, timestep, inputs.prompt, inputs.reference)
        unconditional, _ = self._predict(latents, timestep, inputs.negative, inputs.absent)
        return unconditional + inputs.guidance_scale * (conditional - unconditional)

    def _predict(
        self, latents: Tensor, timestep: Tensor, text: TextFeatures, features: VisionFeatures | None
    ) -> tuple[Tensor, list[Tensor]]:
        """One U-Net call for b images: the prediction [b, 4, h, w], and each layer's maps [b, heads, t, h', w']."""
        call = _Call(self.inputs.size)
        if features is not None:
            assert self.mask is not None
            call.tokens = self.inputs.adapter(features).expand(len(latents), -1, -1)
            call.mask = self.mask * self.inputs.guidance.quantity
        for layer in self._layers:
            layer.call = call
        predicted = self.unet(
            latents,
            timestep,
            encoder_hidden_states=text.tokens,
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": self.inputs.time_ids},
            return_dict=False,
        )[0]
        return predicted, call.maps

    def _find_mask(self, maps: list[Tensor]) -> Tensor:
        """Mask of the target word's attention: mean of heads, sum of its tokens, mean of layers, top positions."""
        size = tuple(-(-side // 2) for side in self.inputs.size)
        words = self.inputs.words[:, :, None, None].float()
        of_word = [(m.mean(1) * words).sum(1, keepdim=True) for m in maps]
        layers = [_stretch(F.interpolate(m, size, mode="bilinear", align_corners=False)) for m in of_word]
        quantity = _stretch(torch.cat(layers, 1).mean(1, keepdim=True)).flatten(1)
        top = quantity.topk(max(1, int(quantity.shape[1] * self.inputs.guidance.scope)), dim=1)
        mask = torch.zeros_like(quantity).scatter(1, top.indices, top.values)
        return mask.view(-1, 1, *size).to(self.inputs.noise.dtype)


def plain(inputs: DenoisingInputs) -> Implementation:
    """The implementation of this module."""
    unet_and_adapter = (inputs.unet, inputs.adapter)

    def run(steps: int) -> Tensor:
        return denoise(inputs, PlainPredictor(inputs), steps)

    return Implementation("plain", run, unet_and_adapter)


def _stretch(maps: Tensor) -> Tensor:
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low + _EPSILON)
