"""What one request brings to its denoising steps: text, subjects, and the influence masks found on the way.

`PromptConditioning` makes no U-Net call. `components.model.batched_denoiser` makes one for the rows of any number of
them and hands each what was recorded of its words.

Shapes: b pictures, s subjects a picture, t text tokens, n vision tokens, (h, w) latents, (H, W) masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.model.guidance import MaskGuidance, refine, resolve_overlaps
from components.model.subjects import SubjectBatch
from components.model.text import TextFeatures


@dataclass(frozen=True, eq=False)
class SubjectCacheKey:
    """One subject, or what stands for its absence, in one row of a sketch. It is what keys and values are kept under.

    Args:
        row: which of the sketch's rows it acts in: the b unconditional ones first, if there are any.
        picture, subject: whose mask it acts under.
        tokens: [n, d].
        gain: scale [n] of each token's value, or None for 1.
    """

    row: int
    picture: int
    subject: int
    tokens: Tensor
    gain: Tensor | None


@dataclass(frozen=True)
class RecordedMaps:
    """How the words of a sketch were attended to in one pass.

    Args:
        maps: [b, s, h, w'] of each watched layer.
        self_attention: queries and keys [b, heads, q, c / heads] of self-attention layers, if they are wanted.
    """

    maps: list[Tensor]
    self_attention: list[tuple[Tensor, Tensor]]


class PromptConditioning:
    """b pictures in the making, which agree in size, guidance scale and step.

    Args:
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
        text: TextFeatures,
        time_ids: Tensor,
        size: tuple[int, int],
        guidance_scale: float,
        slots: Sequence[SubjectBatch] = (),
        absent: Tensor | None = None,
        guidance: MaskGuidance | None = None,
    ) -> None:
        self.text, self.time_ids, self.size, self.guidance_scale = text, time_ids, size, guidance_scale
        self.guidance = guidance or MaskGuidance()
        #: Pictures b, and whether each has an unconditional row.
        self.guided = guidance_scale > 1
        self.count = len(text.tokens) // (2 if self.guided else 1)
        #: Names of the rows.
        self.names = tuple(object() for _ in text.tokens)
        self.slots = list(slots)
        self._strengths = [slot.strength.tolist() for slot in self.slots]
        self.actors = [a for index, slot in enumerate(self.slots) for a in self._actors(index, slot, absent)]
        #: Weights [b, t, s] of the subjects' words; None without subjects.
        self.words = torch.stack([slot.words for slot in self.slots], dim=-1) if self.slots else None
        #: What the masks of the next step are read from; None where a text-only pass has to show it.
        self.seen: RecordedMaps | None = None
        #: The influence masks [b, s, H, W] of the last step; None without subjects.
        self.masks: Tensor | None = None

    @property
    def mask_size(self) -> tuple[int, int]:
        """(H, W): half the latents' size, rounded up."""
        return mask_size(self.size)

    @property
    def present(self) -> list[int]:
        """How many subjects each picture has."""
        return [sum(strength[i] > 0 for strength in self._strengths) for i in range(self.count)]

    def finds(self, step: int) -> bool:
        """Whether ``step`` begins with new masks."""
        return bool(self.slots) and (self.masks is None or step < self.guidance.steps)

    def watches(self, step: int) -> bool:
        """Whether the guided pass of ``step`` shows where the next step's masks lie."""
        return bool(self.slots) and step + 1 < self.guidance.steps and self.guidance.source == "conditional"

    def find_masks(self) -> None:
        """Turn what was seen into masks."""
        assert self.seen is not None, "nothing was seen yet"
        quantity = self.guidance.merge([m.flatten(0, 1) for m in self.seen.maps], self.mask_size)
        if self.guidance.self_attention:
            quantity = refine(quantity, self.seen.self_attention)
        found = self.guidance.select(quantity).unflatten(0, (self.count, -1))[:, :, 0]
        for index, slot in enumerate(self.slots):
            if slot.mask is not None:
                found[:, index] = torch.where(slot.mask[:, 0].isnan(), found[:, index], slot.mask[:, 0].to(found.dtype))
        self.masks = resolve_overlaps(found)

    def influence_masks(self) -> Tensor:
        """The masks times each subject's strength, [b, s, H, W]."""
        assert self.masks is not None
        strength = torch.stack([slot.strength for slot in self.slots], dim=1) * self.guidance.quantity
        dtype = self.slots[0].tokens.dtype
        return self.masks.to(dtype) * strength[..., None, None].to(dtype)

    def _actors(self, index: int, slot: SubjectBatch, absent: Tensor | None) -> list[SubjectCacheKey]:
        """The slot's subject in the rows that show it, and no subject in the unconditional rows before them."""
        if self.guided and absent is None:
            raise ValueError("absent: guided pictures with subjects need the tokens that stand for no subject")
        actors = []
        for picture, strength in enumerate(self._strengths[index]):
            if strength == 0:
                continue
            gain = None if slot.gain is None else slot.gain[picture]
            if absent is not None and self.guided:
                actors.append(
                    SubjectCacheKey(picture, picture, index, *self._absence(absent.to(slot.tokens), slot, gain))
                )
            row = picture + self.count if self.guided else picture
            actors.append(SubjectCacheKey(row, picture, index, slot.tokens[picture], gain))
        return actors

    def _absence(self, absent: Tensor, slot: SubjectBatch, gain: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens and gain that stand for "no subject"."""
        if self.guidance.absent == "mean":
            return absent.mean(0, keepdim=True), None if gain is None else gain.mean(0, keepdim=True)
        return absent.repeat(slot.tokens.shape[1] // len(absent), 1), gain


def mask_size(latent_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of influence masks: half the latents', rounded up."""
    return (latent_size[0] + 1) // 2, (latent_size[1] + 1) // 2
