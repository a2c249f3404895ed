"""Face group and body group: which of a reference's tokens show the face."""

from __future__ import annotations

import torch
from torch import Tensor


def face_tokens(box: tuple[float, float, float, float] | None, size: int, grid: int) -> Tensor:
    """The face group: bool [grid * grid], rows first, true where a patch's centre lies in the face box.

    The other tokens are the body group. No box, or one that holds no centre, leaves the face group empty.

    Args:
        box: x0, y0, x1, y1 in pixels of the square reference, or None.
        size: side of the reference in pixels.
        grid: patches on a side.
    """
    if box is None:
        return torch.zeros(grid * grid, dtype=torch.bool)
    x0, y0, x1, y1 = box
    centres = (torch.arange(grid) + 0.5) * (size / grid)
    rows, columns = (y0 <= centres) & (centres < y1), (x0 <= centres) & (centres < x1)
    return (rows[:, None] & columns).flatten()
