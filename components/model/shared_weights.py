"""Copies of a module that share its parameters."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def share_weights(module: M, *referenced: nn.Module) -> M:
    """A copy of ``module`` with the same parameters and buffers, which needs almost no memory.

    Hooks and attention processors are set on each copy separately, so different threads may use them at the same time.
    Neither may be moved or trained by itself.

    Args:
        referenced: modules that ``module`` refers to without owning them, such as those of its attention processors;
            their parameters are not copied either.
    """
    owners: list[nn.Module] = [module, *referenced]
    tensors = [tensor for owner in owners for tensor in (*owner.parameters(), *owner.buffers())]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
