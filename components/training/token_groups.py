"""Face and body groups in training: one of them is left out by chance, so that each learns to carry its own part.

Shapes: b rows, n vision tokens, h x w latent positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Dropped(NamedTuple):
    """Which rows (bool [b]) lose their face group, and which their body group; none loses both."""

    face: Tensor
    body: Tensor


def drop_groups(face: Tensor, chance: float, generator: torch.Generator) -> Dropped:
    """Draw what is dropped: with ``chance`` one group, half each, of every row with tokens in ``face`` [b, n].

    One number a row is drawn whether it has a face or not, so that later draws do not depend on the data.
    """
    drawn = torch.rand(len(face), generator=generator)
    has_face = face.bool().any(1)
    return Dropped(has_face & (drawn < chance / 2), has_face & (drawn >= chance / 2) & (drawn < chance))


def token_gain(face: Tensor, dropped: Dropped) -> Tensor:
    """Scale [b, n] of the tokens: 0 on those of the dropped group, 1 on the others."""
    gone = torch.where(face.bool(), dropped.face[:, None], dropped.body[:, None])
    return (~gone).float()


def kept_positions(mask: Tensor, head: Tensor, dropped: Dropped) -> Tensor:
    """1 where a target shows nothing of the dropped group, else 0, [b, h, w].

    Args:
        mask: share [b, h, w] of the subject in every position.
        head: share [b, h, w] of its head, at most ``mask``.
    """
    gone = (dropped.face[:, None, None] & (head > 0)) | (dropped.body[:, None, None] & (mask > head))
    return (~gone).float()


def subject_weights(mask: Tensor, weight: float) -> Tensor:
    """Weights [b, h, w] that rise from 1 off the subject to ``weight`` on it, scaled to mean 1 over each row."""
    weights = 1 + (weight - 1) * mask
    return weights / weights.mean((1, 2), keepdim=True)
