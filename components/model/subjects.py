"""Subjects of a picture, and how those of a whole batch are laid side by side for the U-Net.

Shapes: b pictures, s subjects a picture at most, n vision tokens, d their width, t text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Subject:
    """One subject of a prompt.

    Args:
        tokens: what `RealCustomPipeline.encode_subject` returned, [n, d].
        word: the word (or phrase) of the prompt that stands for it.
        strength: scales all of its influence, 0 to 2; 0 is stock SDXL.
        face: bool [n], the tokens inside the face box (`components.model.face_tokens`); None if no face is known.
        face_strength: scales the face tokens' contribution, 0 to 2; no effect without ``face``.
        body_strength: scales the other tokens' contribution, 0 to 2.
        mask: a given influence mask [H, W] in [0, 1] of any size, in place of the found one.
    """

    tokens: Tensor
    word: str
    strength: float = 1.0
    face: Tensor | None = None
    face_strength: float = 1.0
    body_strength: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2:
            raise ValueError(f"tokens: expected [n, d], got {tuple(self.tokens.shape)}")
        if self.face is not None and self.face.shape != self.tokens.shape[:1]:
            raise ValueError(f"face: expected [{len(self.tokens)}], got {tuple(self.face.shape)}")
        for name in ("strength", "face_strength", "body_strength"):
            if not 0 <= getattr(self, name) <= 2:
                raise ValueError(f"{name}: must lie between 0 and 2")

    @property
    def gain(self) -> Tensor:
        """The scale [n] of each token's contribution."""
        if self.face is None:
            return torch.full((len(self.tokens),), self.body_strength)
        return torch.where(self.face.cpu().bool(), self.face_strength, self.body_strength)

    @property
    def acts(self) -> bool:
        """Whether it changes the picture at all."""
        return self.strength > 0 and bool(self.gain.any())


@dataclass(frozen=True)
class SubjectBatch:
    """The first (second, ...) subjects of all pictures, stacked.

    A picture with fewer subjects has zero tokens here: keys and values without bias make them act nowhere.

    Args:
        tokens: [b, n, d].
        words: weights [b, t] of the word's tokens, zero where there is no subject.
        strength: [b].
        gain: [b, n], or None where all are 1.
        mask: given masks [b, 1, H, W], NaN where none was given; None if none was given at all.
    """

    tokens: Tensor
    words: Tensor
    strength: Tensor
    gain: Tensor | None
    mask: Tensor | None


Subjects = Subject | Sequence[Subject] | Sequence[Sequence[Subject]]


def by_prompt(subjects: Subjects | None, prompts: int) -> list[list[Subject]]:
    """Each prompt's acting subjects: one subject, or a flat list, goes to every prompt.

    Raises:
        ValueError: a list of lists that is not as long as the prompts.
    """
    if subjects is None:
        return [[] for _ in range(prompts)]
    if isinstance(subjects, Subject):
        subjects = [subjects]
    rows: list[list[Subject]] = []
    for item in subjects:
        rows.append([item] if isinstance(item, Subject) else list(item))
    if all(isinstance(item, Subject) for item in subjects):
        rows = [[subject for row in rows for subject in row]] * prompts
    if len(rows) != prompts:
        raise ValueError(f"subjects: {len(rows)} lists for {prompts} prompts")
    return [[subject for subject in row if subject.acts] for row in rows]


def stack_subjects(
    rows: Sequence[Sequence[Subject]], find_words: Callable[[int, str], Tensor], mask_size: tuple[int, int]
) -> list[SubjectBatch]:
    """Lay the subjects of a batch side by side.

    Args:
        rows: each picture's subjects.
        find_words: (picture, word) -> weights [t] of the word's tokens in that picture's prompt.
        mask_size: (height, width) that given masks are resized to.
    """
    slots = []
    for index in range(max((len(row) for row in rows), default=0)):
        present = [(place, row[index]) for place, row in enumerate(rows) if len(row) > index]
        # Repeating all tokens equally often changes no attention: a common length without padding.
        length = math.lcm(*(len(subject.tokens) for _, subject in present))
        first = present[0][1].tokens
        tokens = first.new_zeros(len(rows), length, first.shape[1])
        gain = torch.ones(len(rows), length)
        strength = torch.zeros(len(rows))
        mask = torch.full((len(rows), 1, *mask_size), torch.nan)
        words: list[Tensor | None] = [None] * len(rows)
        for place, subject in present:
            times = length // len(subject.tokens)
            tokens[place] = subject.tokens.repeat(times, 1)
            gain[place] = subject.gain.repeat(times)
            strength[place] = subject.strength
            words[place] = find_words(place, subject.word)
            if subject.mask is not None:
                given = subject.mask[None, None].float()
                mask[place] = F.interpolate(given, mask_size, mode="bilinear", align_corners=False)[0]
        blank = torch.zeros_like(next(w for w in words if w is not None))
        slots.append(
            SubjectBatch(
                tokens,
                torch.stack([blank if w is None else w for w in words]),
                strength,
                None if bool((gain == 1).all()) else gain,
                None if bool(mask.isnan().all()) else mask,
            )
        )
    return slots


def to_device(slot: SubjectBatch, device: torch.device, dtype: torch.dtype) -> SubjectBatch:
    """The slot where the U-Net is, in its precision."""
    gain, mask = (None if t is None else t.to(device, dtype) for t in (slot.gain, slot.mask))
    tokens, words, strength = (t.to(device, dtype) for t in (slot.tokens, slot.words, slot.strength))
    return SubjectBatch(tokens, words, strength, gain, mask)
