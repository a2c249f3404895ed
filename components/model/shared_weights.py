"""A second module over the weights of a first one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def share_weights(module: M, shared: Iterable[Tensor] = ()) -> M:
    """A module like ``module`` over the same tensors: it costs no memory to speak of.

    What is set on one of the two, such as hooks or attention processors, is not set on the other, so different threads
    may use them at the same time. Neither is to be moved or trained by itself.

    Args:
        shared: tensors that are not the module's own, but that what is set on it refers to.
    """
    tensors = [*module.parameters(), *module.buffers(), *shared]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
