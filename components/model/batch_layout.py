"""How the rows of several sketches lie in one U-Net call, and which subjects act in which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from components.model.attention import SubjectAttention
from components.model.kv_cache import CachedRows, KeyValueCache
from components.model.prompt_conditioning import PromptConditioning, SubjectCacheKey
from components.model.text import TextFeatures


@dataclass(frozen=True)
class SubjectGroup:
    """Actors with equally many tokens.

    Args:
        influence: all but its mask.
        masks: which of all the sketches' masks each acts under, [r].
    """

    influence: SubjectAttention
    masks: Tensor


class BatchLayout:
    """The call's rows: the unconditional ones of all guided sketches, then the conditional ones of all.

    Args:
        sketches: of one size.
        kept: by number of tokens, the keys and values of an earlier formation, from which this one takes what it can.

    Raises:
        ValueError: sketches of several sizes.
    """

    def __init__(self, sketches: list[PromptConditioning], kept: dict[int, KeyValueCache]) -> None:
        if any(sketch.size != sketches[0].size for sketch in sketches):
            raise ValueError("size: pictures that are drawn together must be of one size")
        self.sketches, self.size = sketches, sketches[0].size
        halves = [(sketch, slice(0, sketch.count)) for sketch in sketches if sketch.guided]
        halves += [(sketch, slice(-sketch.count, None)) for sketch in sketches]
        #: All rows' text, size conditioning and names.
        self.text = TextFeatures(
            torch.cat([sketch.text.tokens[rows] for sketch, rows in halves]),
            torch.cat([sketch.text.pooled[rows] for sketch, rows in halves]),
        )
        self.time_ids = torch.cat([sketch.time_ids[rows] for sketch, rows in halves])
        self.names = tuple(name for sketch, rows in halves for name in sketch.names[rows])
        self.kept: dict[int, KeyValueCache] = {}
        self.groups = self._group(kept)
        self._masks: list[Tensor | None] = []
        self._influences: list[SubjectAttention] = []

    def influences(self) -> list[SubjectAttention]:
        """Each group under the sketches' masks of now."""
        masks = [sketch.masks for sketch in self.sketches]
        if not self._influences or any(a is not b for a, b in zip(masks, self._masks, strict=True)):
            every = torch.cat([sketch.influence_masks().flatten(0, 1) for sketch in self.sketches if sketch.slots])
            self._masks = masks
            self._influences = [
                replace(group.influence, mask=every.index_select(0, group.masks)[:, None]) for group in self.groups
            ]
        return self._influences

    def _group(self, kept: dict[int, KeyValueCache]) -> list[SubjectGroup]:
        place = {name: index for index, name in enumerate(self.names)}
        actors: dict[int, list[tuple[SubjectCacheKey, int, int]]] = {}
        first = 0
        for sketch in self.sketches:
            for actor in sketch.actors:
                mask = first + actor.picture * len(sketch.slots) + actor.subject
                entry = (actor, place[sketch.names[actor.row]], mask)
                actors.setdefault(len(actor.tokens), []).append(entry)
            first += sketch.count * len(sketch.slots)
        groups = []
        for length, entries in actors.items():
            self.kept[length] = kept.get(length) or KeyValueCache()
            groups.append(_group_of(entries, self.kept[length]))
        return groups


def _group_of(entries: Sequence[tuple[SubjectCacheKey, int, int]], kept: KeyValueCache) -> SubjectGroup:
    members = tuple(actor for actor, _, _ in entries)
    tokens = torch.stack([actor.tokens for actor in members])
    rows, masks = (torch.tensor([entry[i] for entry in entries], device=tokens.device) for i in (1, 2))
    gain = None
    if any(actor.gain is not None for actor in members):
        gain = torch.stack([tokens.new_ones(tokens.shape[1]) if a.gain is None else a.gain for a in members])
    return SubjectGroup(SubjectAttention(tokens, gain, rows=rows, keep=CachedRows(members, kept)), masks)
