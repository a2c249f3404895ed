"""The rows of several conditionings in one U-Net call, and the subjects that act in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from components.model.attention import SubjectAttention
from components.model.kv_cache import CachedRows, KeyValueCache
from components.model.prompt_conditioning import PromptConditioning, SubjectCacheKey
from components.model.style_images import stack_styles
from components.model.text import TextFeatures, stack_texts


def padded_keys(keys: tuple[object, ...], text: TextFeatures) -> tuple[Hashable, ...]:
    """Cache keys of the rows of ``text``: keys and values that are padded are others than those that are not."""
    return keys if text.mask is None else tuple((key, text.tokens.shape[1]) for key in keys)


@dataclass(frozen=True)
class SubjectGroup:
    """The subjects with the same number of tokens.

    Args:
        attention: everything but the mask.
        masks: indices [r] of the subjects' masks among those of all conditionings.
    """

    attention: SubjectAttention
    masks: Tensor


class BatchLayout:
    """The rows of one call: the unconditional rows of all guided conditionings, then the conditional rows of all.

    Args:
        conditionings: of one size.
        caches: by number of tokens, the keys and values of the previous layout, which are reused as far as they fit.

    Raises:
        ValueError: the conditionings differ in size.
    """

    def __init__(self, conditionings: list[PromptConditioning], caches: dict[int, KeyValueCache]) -> None:
        if any(conditioning.size != conditionings[0].size for conditioning in conditionings):
            raise ValueError("size: images of one batch must be of one size")
        if any(conditioning.loras != conditionings[0].loras for conditioning in conditionings):
            raise ValueError("loras: images of one batch must have the same LoRAs")
        self.conditionings, self.size = conditionings, conditionings[0].size
        parts = [
            (conditioning, slice(0, conditioning.batch_size)) for conditioning in conditionings if conditioning.guided
        ]
        parts += [(conditioning, slice(-conditioning.batch_size, None)) for conditioning in conditionings]
        #: Text, size conditioning and cache keys of all rows.
        self.text = stack_texts([c.text.rows(rows) for c, rows in parts])
        self.time_ids = torch.cat([c.time_ids[rows] for c, rows in parts])
        #: Features of IP-Adapters' pictures, and the rows in which they act; None where none is loaded.
        self.image_embeds, self.styled = stack_styles([(c.style, rows) for c, rows in parts])
        self.text_keys = tuple(key for c, rows in parts for key in c.text_keys[rows])
        #: Cache keys of the rows' text keys and values, which are as long as the longest prompt of the call.
        self.text_cache_keys = padded_keys(self.text_keys, self.text)
        self.caches: dict[int, KeyValueCache] = {}
        self.groups = self._group(caches)
        self._masks: list[Tensor | None] = []
        self._attentions: list[SubjectAttention] = []

    def subject_attentions(self, level_sizes: Sequence[tuple[int, int]]) -> list[SubjectAttention]:
        """Each group with the conditionings' current masks, resized to the (height, width) of each U-Net level."""
        masks = [conditioning.masks for conditioning in self.conditionings]
        if not self._attentions or any(a is not b for a, b in zip(masks, self._masks, strict=True)):
            all_masks = torch.cat([c.influence_masks().flatten(0, 1) for c in self.conditionings if c.subjects])
            self._masks = masks
            self._attentions = [
                replace(group.attention, mask=all_masks.index_select(0, group.masks)[:, None]) for group in self.groups
            ]
            for attention in self._attentions:
                attention.resize_masks(level_sizes)
        return self._attentions

    def _group(self, caches: dict[int, KeyValueCache]) -> list[SubjectGroup]:
        row_of = {key: index for index, key in enumerate(self.text_keys)}
        by_length: dict[int, list[tuple[SubjectCacheKey, int, int]]] = {}
        first_mask = 0
        for conditioning in self.conditionings:
            for key in conditioning.subject_keys:
                mask = first_mask + key.image * len(conditioning.subjects) + key.subject
                entry = (key, row_of[conditioning.text_keys[key.row]], mask)
                by_length.setdefault(len(key.tokens), []).append(entry)
            first_mask += conditioning.batch_size * len(conditioning.subjects)
        groups = []
        for length, entries in by_length.items():
            self.caches[length] = caches.get(length) or KeyValueCache()
            groups.append(_group_of(entries, self.caches[length]))
        return groups


def _group_of(entries: Sequence[tuple[SubjectCacheKey, int, int]], cache: KeyValueCache) -> SubjectGroup:
    """The group of (cache key, row of the call, index of the mask) entries.

    First the first subject of every row, then the second of those that have two, and so on: a turn each.
    """
    seen: Counter[int] = Counter()
    turns: list[list[tuple[SubjectCacheKey, int, int]]] = []
    for entry in entries:
        turn = seen[entry[1]]
        seen[entry[1]] += 1
        turns += [[]] if turn == len(turns) else []
        turns[turn].append(entry)
    entries = [entry for turn in turns for entry in turn]
    keys = tuple(key for key, _, _ in entries)
    tokens = torch.stack([key.tokens for key in keys])
    rows, masks = (torch.tensor([entry[i] for entry in entries], device=tokens.device) for i in (1, 2))
    gain = None
    if any(key.gain is not None for key in keys):
        gain = torch.stack([tokens.new_ones(tokens.shape[1]) if key.gain is None else key.gain for key in keys])
    sizes = tuple(len(turn) for turn in turns) if len(turns) > 1 else None
    attention = SubjectAttention(tokens, gain, rows=rows, turns=sizes, cache=CachedRows(keys, cache))
    return SubjectGroup(attention, masks)
