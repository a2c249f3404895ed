"""The conditioning of one request: text, subjects, and the influence masks of its last step.

`PromptConditioning` makes no U-Net call. `components.model.batched_denoiser` makes one call for the rows of any number
of them and gives each the attention maps that were recorded for its words.

Shapes: b images, s subjects an image, t text tokens, n vision tokens, (h, w) latents, (H, W) masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.config import GuidanceConfig
from components.model.control import ActiveControl
from components.model.influence_mask import (
    average_maps,
    confine,
    multiply_self_attention,
    normalize,
    resolve_overlaps,
    select_scope,
)
from components.model.loras import LoraSet
from components.model.style_images import StyleImages
from components.model.subjects import SubjectBatch
from components.model.text import TextFeatures


@dataclass(frozen=True, eq=False)
class SubjectCacheKey:
    """One subject, or the "no subject" tokens, in one row of a conditioning: the cache key of its keys and values.

    Args:
        row: index of the row in which it acts; the b unconditional rows come first, if there are any.
        image, subject: indices of the mask under which it acts.
        tokens: [n, d].
        gain: scale [n] of each token's value, or None for 1.
    """

    row: int
    image: int
    subject: int
    tokens: Tensor
    gain: Tensor | None


@dataclass(frozen=True)
class RecordedMaps:
    """The attention maps of a conditioning's words in one U-Net call.

    Args:
        maps: [b, s, h, w'] of each recorded layer.
        self_attention: queries and keys [b, heads, q, c / heads] of self-attention layers, if the guidance uses them.
    """

    maps: list[Tensor]
    self_attention: list[tuple[Tensor, Tensor]]


class PromptConditioning:
    """The conditioning of b images that have the same size, guidance scale and step.

    Args:
        text: of the b negative prompts and then the b prompts; of the prompts alone if ``guidance_scale`` is 1.
        time_ids: SDXL's size conditioning, as many rows as ``text``.
        size: (h, w) of the latents.
        guidance_scale: scale of classifier-free guidance; 1 turns it off, and so does ``timestep_cond``.
        subjects: the first subjects of all images, their second subjects, and so on.
        no_subject: vision tokens [m, d] that stand for "no subject" in the unconditional rows; m divides every n. With
            ``guidance.absent`` "mean" their mean is used.
        guidance: how the masks are computed.
        region: [b, 1, H, W], true where subjects may act; None is everywhere.
        timestep_cond: the guidance scale [1, d] as an input of a U-Net that was distilled to need one call for it.
        guidance_rescale: share of the rescaled guidance, 0 to 1.
    """

    def __init__(
        self,
        text: TextFeatures,
        time_ids: Tensor,
        size: tuple[int, int],
        guidance_scale: float,
        subjects: Sequence[SubjectBatch] = (),
        no_subject: Tensor | None = None,
        guidance: GuidanceConfig = GuidanceConfig(),
        region: Tensor | None = None,
        timestep_cond: Tensor | None = None,
        guidance_rescale: float = 0.0,
    ) -> None:
        self.text, self.time_ids, self.size, self.guidance_scale = text, time_ids, size, guidance_scale
        self.guidance, self.timestep_cond, self._region = guidance, timestep_cond, region
        self.guidance_rescale = guidance_rescale
        #: The LoRAs of its U-Net calls.
        self.loras: LoraSet = ()
        #: The control of its U-Net calls.
        self.control: ActiveControl | None = None
        #: The pictures of its IP-Adapters; None where none is loaded.
        self.style: StyleImages | None = None
        #: Whether each image has an unconditional row.
        self.guided = guidance_scale > 1 and timestep_cond is None
        #: Number of images b.
        self.batch_size = len(text.tokens) // (2 if self.guided else 1)
        #: Cache keys of the text rows.
        self.text_keys = tuple(object() for _ in text.tokens)
        self.subjects = list(subjects)
        self._strengths = [batch.strength.tolist() for batch in self.subjects]
        self.subject_keys = [
            key for index, batch in enumerate(self.subjects) for key in self._cache_keys(index, batch, no_subject)
        ]
        #: Weights [b, t, s] of the tokens of the subjects' words; None without subjects.
        self.words = torch.stack([batch.words for batch in self.subjects], dim=-1) if self.subjects else None
        #: The maps from which the masks of the next step are computed; None if a text-only call has to record them.
        self.recorded: RecordedMaps | None = None
        #: The influence masks [b, s, H, W] of the last step; None before it, and without subjects.
        self.masks: Tensor | None = None

    @property
    def mask_size(self) -> tuple[int, int]:
        """(H, W): half of the latents' size, rounded up."""
        return mask_size(self.size)

    @property
    def subject_counts(self) -> list[int]:
        """The number of subjects of each image."""
        return [sum(strength[i] > 0 for strength in self._strengths) for i in range(self.batch_size)]

    def needs_masks(self, step: int) -> bool:
        """Whether ``step`` begins with new masks."""
        return bool(self.subjects) and (self.masks is None or step < self.guidance.steps)

    def records_maps(self, step: int) -> bool:
        """Whether the conditional rows of ``step`` record the maps for the next step's masks."""
        return bool(self.subjects) and step + 1 < self.guidance.steps and self.guidance.source == "conditional"

    def update_masks(self) -> None:
        """Compute the masks from the recorded maps (paper section 3.3)."""
        assert self.recorded is not None, "no attention maps were recorded yet"
        maps = [layer.flatten(0, 1) for layer in self.recorded.maps]
        average = average_maps(maps, self.mask_size, self.guidance.norm)
        if self.guidance.self_attention:
            average = multiply_self_attention(average, self.recorded.self_attention)
        region = None
        if self._region is not None:
            region = self._region.repeat_interleave(len(self.subjects), 0)
            average = confine(average, region)
        quantity = normalize(average, self.guidance.norm)
        if region is not None:
            quantity = quantity * region
        selected = select_scope(quantity, self.guidance.scope, self.guidance.binary)
        if region is not None:
            selected = selected * region
        masks = selected.unflatten(0, (self.batch_size, -1))[:, :, 0]
        for index, batch in enumerate(self.subjects):
            if batch.mask is not None:
                given = batch.mask[:, 0]
                masks[:, index] = torch.where(given.isnan(), masks[:, index], given.to(masks.dtype))
        self.masks = resolve_overlaps(masks)

    def influence_masks(self) -> Tensor:
        """The masks times each subject's strength, [b, s, H, W]."""
        assert self.masks is not None
        strength = torch.stack([batch.strength for batch in self.subjects], dim=1) * self.guidance.quantity
        dtype = self.subjects[0].tokens[0].dtype
        return self.masks.to(dtype) * strength[..., None, None].to(dtype)

    def _cache_keys(self, index: int, batch: SubjectBatch, no_subject: Tensor | None) -> list[SubjectCacheKey]:
        """Keys of the batch's subjects in the conditional rows, and of "no subject" in the unconditional ones."""
        if self.guided and no_subject is None:
            raise ValueError("no_subject: classifier-free guidance with subjects needs the tokens of no subject")
        keys = []
        for image, strength in enumerate(self._strengths[index]):
            if strength == 0:
                continue
            gain = None if batch.gain is None else batch.gain[image]
            if no_subject is not None and self.guided:
                own = batch.tokens[image]
                tokens = self._no_subject_tokens(no_subject.to(own), len(own), gain)
                keys.append(SubjectCacheKey(image, image, index, *tokens))
            row = image + self.batch_size if self.guided else image
            keys.append(SubjectCacheKey(row, image, index, batch.tokens[image], gain))
        return keys

    def _no_subject_tokens(self, no_subject: Tensor, length: int, gain: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens and gain of "no subject" in place of a subject of ``length`` tokens."""
        if self.guidance.absent == "mean":
            return no_subject.mean(0, keepdim=True), None if gain is None else gain.mean(0, keepdim=True)
        return no_subject.repeat(length // len(no_subject), 1), gain


def mask_size(latent_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of influence masks: half of the latents', rounded up."""
    return (latent_size[0] + 1) // 2, (latent_size[1] + 1) // 2
