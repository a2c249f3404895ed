"""One denoising step with subjects: find where each may act, then predict the noise once with all of them.

`Denoiser` knows the U-Net and nothing of encoders, schedulers or pictures. In the first `MaskGuidance.steps` steps it
finds the influence masks, in a text-only pass (paper section 3.3) or from what the guided pass of the step before
attended to. Everything that does not change between steps is computed once: vision and text keys and values.

Shapes: b pictures, s subjects a picture, t text tokens, n vision tokens, (h, w) latents, (H, W) masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from components.model.attention import AllSeen, Influence, KeyValueCache, SubjectContext, WordWatch
from components.model.guidance import MaskGuidance, refine, resolve_overlaps
from components.model.subjects import Slot
from components.model.text import TextFeatures


class Denoiser:
    """The guided noise prediction of b pictures.

    Args:
        unet: with a `RealCustomAdapter` attached, if there are subjects.
        text: of the b negative prompts and then the b prompts; of the prompts alone if ``guidance_scale`` is 1.
        time_ids: SDXL's size conditioning, as many rows as ``text``.
        size: (h, w) of the latents.
        guidance_scale: classifier-free guidance; 1 turns it off.
        slots: the subjects.
        absent: vision tokens [m, d] that stand for "no subject" in the unconditional rows; m divides every n. With
            ``guidance.absent`` "mean" it is their mean that does.
        guidance: how the masks are found.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text: TextFeatures,
        time_ids: Tensor,
        size: tuple[int, int],
        guidance_scale: float,
        slots: Sequence[Slot] = (),
        absent: Tensor | None = None,
        guidance: MaskGuidance | None = None,
    ) -> None:
        self.unet, self.text, self.time_ids, self.size = unet, text, time_ids, size
        self.guidance_scale = guidance_scale
        self.guidance = guidance or MaskGuidance()
        self._slots = list(slots)
        self._subjects = [self._with_unconditional(slot, absent) for slot in slots]
        self._text_cache: KeyValueCache = {}
        self._watched_text_cache: KeyValueCache = {}
        self._layers = self._watched_layers()
        self._seen: WordWatch | None = None
        self._influences: list[Influence] = []
        #: The influence masks [b, s, H, W] of the last step; None without subjects.
        self.masks: Tensor | None = None

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    @property
    def mask_size(self) -> tuple[int, int]:
        """(H, W): half the latents' size, rounded up."""
        return mask_size(self.size)

    def __call__(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """Predict the guided noise (or v) [b, 4, h, w].

        Args:
            latents: [b, 4, h, w], scaled as the scheduler wants the model's input.
            timestep: of the noise schedule, a scalar or [b].
            step: counts from 0.
        """
        if self._slots and (self.masks is None or step < self.guidance.steps):
            self._find_masks(latents, timestep)
        later = step + 1 < self.guidance.steps
        watch = self._watch() if self._slots and later and self.guidance.source == "conditional" else None
        context = None
        if self._slots:
            context = SubjectContext(self.size, self._influences, watch, self._text_cache)
        if not self.guided:
            prediction = self._predict(latents, timestep, self.text, self.time_ids, context)
        else:
            both = self._predict(torch.cat([latents] * 2), timestep, self.text, self.time_ids, context)
            unconditional, conditional = both.chunk(2)
            prediction = unconditional + self.guidance_scale * (conditional - unconditional)
        self._seen = watch
        return prediction

    def _find_masks(self, latents: Tensor, timestep: Tensor) -> None:
        if self._seen is None:
            self._seen = self._watch(stops=_can_stop(self.unet) and not self.guidance.self_attention)
            count = len(latents)
            text = TextFeatures(self.text.tokens[-count:], self.text.pooled[-count:])
            repeated = self.guidance.source == "separate"  # otherwise this is the only text-only pass
            context = SubjectContext(self.size, [], self._seen, self._watched_text_cache if repeated else None)
            with suppress(AllSeen):
                self._predict(latents, timestep, text, self.time_ids[:count], context)
        quantity = self.guidance.merge([m.flatten(0, 1) for m in self._seen.maps], self.mask_size)
        if self.guidance.self_attention:
            quantity = refine(quantity, self._seen.self_attention)
        found = self.guidance.select(quantity).unflatten(0, (len(latents), -1))[:, :, 0]
        self._seen = None
        for index, slot in enumerate(self._slots):
            if slot.mask is not None:
                found[:, index] = torch.where(slot.mask[:, 0].isnan(), found[:, index], slot.mask[:, 0].to(found.dtype))
        self.masks = resolve_overlaps(found)
        self._influences = [self._influence(index) for index in range(len(self._slots))]

    def _influence(self, index: int) -> Influence:
        assert self.masks is not None
        slot, subject = self._slots[index], self._subjects[index]
        strength = (slot.strength * self.guidance.quantity).view(-1, 1, 1, 1)
        mask = self.masks[:, index, None].to(subject.tokens.dtype) * strength.to(subject.tokens.dtype)
        return replace(subject, mask=mask.repeat(2 if self.guided else 1, 1, 1, 1))

    def _with_unconditional(self, slot: Slot, absent: Tensor | None) -> Influence:
        """The slot's subject in the rows that show it, and no subject in the unconditional rows before them."""
        if not self.guided:
            return Influence(slot.tokens, slot.gain, cache={})
        if absent is None:
            raise ValueError("absent: guided pictures with subjects need the tokens that stand for no subject")
        # A picture without a subject in this slot has none in its unconditional row either.
        present = (slot.strength > 0).view(-1, 1)
        if self.guidance.absent == "mean":
            return Influence(slot.tokens, slot.gain, background=absent.to(slot.tokens).mean(0) * present, cache={})
        none = absent.to(slot.tokens).repeat(slot.tokens.shape[1] // len(absent), 1)
        gain = None if slot.gain is None else slot.gain.repeat(2, 1)
        return Influence(torch.cat([none * present[..., None], slot.tokens]), gain, cache={})

    def _watch(self, stops: bool = False) -> WordWatch:
        words = torch.stack([slot.words for slot in self._slots], dim=-1)
        return WordWatch(words, self._layers, self.mask_size if self.guidance.self_attention else None, stops)

    def _watched_layers(self) -> frozenset[str] | None:
        if not self._slots:
            return None
        wanted = self.guidance.layers or ("",)
        paths = [name.removesuffix(".processor") for name in self.unet.attn_processors]
        chosen = frozenset(path for path in paths if path.endswith("attn2") and path.startswith(wanted))
        if not chosen:
            raise ValueError(f"guidance.layers: this U-Net has no cross-attention below {', '.join(wanted)}")
        return chosen

    def _predict(
        self, latents: Tensor, timestep: Tensor, text: TextFeatures, time_ids: Tensor, context: SubjectContext | None
    ) -> Tensor:
        if timestep.ndim and len(timestep) not in (1, len(latents)):
            timestep = timestep.repeat(len(latents) // len(timestep))
        prediction: Tensor = self.unet(
            latents,
            timestep,
            encoder_hidden_states=text.tokens,
            cross_attention_kwargs=None if context is None else {"subject": context},
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return prediction


def _can_stop(unet: UNet2DConditionModel) -> bool:
    """Whether a call may end early: what wraps a compiled or offloaded U-Net counts on its coming to its end."""
    own = isinstance(unet, UNet2DConditionModel) and "forward" not in vars(unet)
    return own and unet._compiled_call_impl is None


def mask_size(latent_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of influence masks: half the latents', rounded up."""
    return (latent_size[0] + 1) // 2, (latent_size[1] + 1) // 2
