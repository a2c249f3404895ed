"""The subjects of a request, and their tensors for a whole batch.

Shapes: b images, s subjects an image at most, n vision tokens, d their width, t text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Subject:
    """One subject of a prompt.

    Args:
        tokens: vision tokens [n, d], from `RealCustomPipeline.encode_subject`.
        word: the target word (or phrase) of the prompt.
        strength: scales the influence mask, 0 to 2; 0 is stock SDXL.
        face: bool [n], the tokens inside the face box (`components.model.face_tokens`); None if no face is known.
        face_strength: scales the values of the face tokens, 0 to 2; no effect without ``face``.
        body_strength: scales the values of the other tokens, 0 to 2.
        mask: an influence mask [H, W] in [0, 1] of any size, used in place of the computed one.

    Raises:
        ValueError: a shape or a strength is out of range.
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
        """The scale [n] of each token's value."""
        if self.face is None:
            return torch.full((len(self.tokens),), self.body_strength)
        return torch.where(self.face.cpu().bool(), self.face_strength, self.body_strength)

    @property
    def active(self) -> bool:
        """Whether it has any influence on the image."""
        return self.strength > 0 and bool(self.gain.any())


@dataclass(frozen=True)
class SubjectBatch:
    """The first (second, ...) subjects of all images, stacked.

    An image with fewer subjects has no tokens and strength 0.

    Args:
        tokens: [n, d] of each image; n may differ.
        words: weights [b, t] of the word's tokens, zero where there is no subject.
        strength: [b].
        gain: [n] of each image, or None where all are 1.
        mask: given influence masks [b, 1, H, W], NaN for images without one; None if no image has one.
    """

    tokens: Sequence[Tensor]
    words: Tensor
    strength: Tensor
    gain: Sequence[Tensor] | None
    mask: Tensor | None


Subjects = Subject | Sequence[Subject] | Sequence[Sequence[Subject]]


def subjects_by_prompt(subjects: Subjects | None, prompts: int) -> list[list[Subject]]:
    """Each prompt's active subjects; one subject, or a flat list, belongs to every prompt.

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
    return [[subject for subject in row if subject.active] for row in rows]


def stack_subjects(
    rows: Sequence[Sequence[Subject]], find_words: Callable[[int, str], Tensor], mask_size: tuple[int, int]
) -> list[SubjectBatch]:
    """Stack the first subjects of all images, their second subjects, and so on.

    Args:
        rows: each image's subjects.
        find_words: (image, word) -> weights [t] of the word's tokens in that image's prompt.
        mask_size: (height, width) to which given masks are resized.
    """
    batches = []
    for index in range(max((len(row) for row in rows), default=0)):
        present = [(image, row[index]) for image, row in enumerate(rows) if len(row) > index]
        none = present[0][1].tokens[:0]
        tokens, gains = [none] * len(rows), [torch.ones(0)] * len(rows)
        strength = torch.zeros(len(rows))
        mask = torch.full((len(rows), 1, *mask_size), torch.nan)
        words: list[Tensor | None] = [None] * len(rows)
        for image, subject in present:
            tokens[image], gains[image] = subject.tokens, subject.gain
            strength[image] = subject.strength
            words[image] = find_words(image, subject.word)
            if subject.mask is not None:
                given = subject.mask[None, None].float()
                mask[image] = F.interpolate(given, mask_size, mode="bilinear", align_corners=False)[0]
        batches.append(
            SubjectBatch(
                tuple(tokens),
                pad_sequence([torch.zeros(0) if w is None else w for w in words], batch_first=True),
                strength,
                None if all(bool((gain == 1).all()) for gain in gains) else tuple(gains),
                None if bool(mask.isnan().all()) else mask,
            )
        )
    return batches


def to_device(batch: SubjectBatch, device: torch.device, dtype: torch.dtype) -> SubjectBatch:
    """``batch`` on the U-Net's device and in its precision."""
    tokens = tuple(each.to(device, dtype) for each in batch.tokens)
    gain = None if batch.gain is None else tuple(each.to(device, dtype) for each in batch.gain)
    mask = None if batch.mask is None else batch.mask.to(device, dtype)
    words, strength = batch.words.to(device, dtype), batch.strength.to(device, dtype)
    return SubjectBatch(tokens, words, strength, gain, mask)
