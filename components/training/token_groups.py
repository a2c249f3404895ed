"""Random dropping of the face or body token group in training, so that each group represents its own part.

Shapes: b rows, n vision tokens, h x w latent positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.training.transfer import to_device


class Dropped(NamedTuple):
    """Rows (bool [b]) without face group, and rows without body group; no row loses both."""

    face: Tensor
    body: Tensor


def drop_groups(face: Tensor, chance: float, generator: torch.Generator) -> Dropped:
    """Sample the dropped groups: with probability ``chance`` one of the two, for rows with tokens in ``face`` [b, n].

    One random number is used for every row, with or without a face, so that later samples do not depend on the data.
    """
    drawn = to_device(torch.rand(len(face), generator=generator), face.device)
    has_face = face.bool().any(1)
    return Dropped(has_face & (drawn < chance / 2), has_face & (drawn >= chance / 2) & (drawn < chance))


def token_gain(face: Tensor, dropped: Dropped) -> Tensor:
    """Scale [b, n] of the tokens: 0 on those of the dropped group, 1 on the others."""
    gone = torch.where(face.bool(), dropped.face[:, None], dropped.body[:, None])
    return (~gone).float()


def kept_positions(mask: Tensor, head: Tensor, dropped: Dropped) -> Tensor:
    """0 where the target shows the dropped group, else 1, [b, h, w].

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
