"""How far two computations of one value may lie apart: bounds that follow from dtype and operations, of no processor.

Processors differ in the order in which they add, and in whether they fuse a product with its sum. Each rounding moves
a value by at most ``u``, half the distance to the next number of its dtype. Independent roundings add up as a random
walk: after ``n`` of them the value is about ``u * sqrt(n)`` of its size away (Higham and Mary, "A new approach to
probabilistic rounding error analysis", 2019). Counting every addition of a sum, though kernels add in blocks, leaves
a margin of ten and more for the maximum over a tensor.

What decides by rank or by threshold is not continuous: where an influence mask is *found*, the smallest error may
choose another position. Comparisons over dtypes therefore give the mask.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Of 8 bit pictures whose values before rounding lie far less than one level apart: either side of a half.
LEVEL = 1


def bound(dtype: torch.dtype, operations: float, scale: float = 1.0) -> float:
    """The error of a value of size ``scale`` after so many roundings to ``dtype``, one after the other."""
    return torch.finfo(dtype).eps / 2 * math.sqrt(operations) * scale


def additions(*modules: nn.Module) -> int:
    """Roundings on the way through ``modules`` where every sum is kept in their own dtype, as float32's are.

    A linear layer or a convolution adds as many products as one of its outputs has; any other layer rounds once.
    """
    return sum(_summands(layer) for layer in _layers(*modules))


def outputs(*modules: nn.Module) -> int:
    """Roundings on the way through ``modules`` where sums are kept in float32, as those of bfloat16 are: the outputs.

    Twice as many as layers, for the weights are rounded too.
    """
    return 2 * len(_layers(*modules))


def drawing_error(unet: nn.Module, latents: Tensor, evaluations: int, guidance_scale: float) -> float:
    """Of the float32 ``latents`` of one request, drawn twice: in another batch, order of sums or set of queries.

    Args:
        evaluations: of ``unet``, one after the other (in one step of a second-order solver there are two).
    """
    size = max(1.0, float(latents.abs().max()))  # noise, which they begin as, is of size 1
    return bound(torch.float32, evaluations * additions(unet), guided(guidance_scale) * size)


def guided(scale: float) -> float:
    """By how much guidance multiplies the independent errors of its two predictions, ``s * text + (1 - s) * none``."""
    return math.hypot(scale, scale - 1)


def stored_in_half(*encoders: nn.Module, largest: float) -> dict[str, float]:
    """For `torch.testing.assert_close`: float32 results of ``encoders`` up to ``largest``, stored as float16."""
    return {"rtol": bound(torch.float16, 1), "atol": bound(torch.float32, additions(*encoders), largest)}


def distance(one: Tensor, other: Tensor) -> float:
    """Root mean square of the difference, relative to that of ``other``."""
    return float((one.float() - other.float()).norm() / other.float().norm())


def attends_in_bf16() -> bool:
    """False where ``ATEN_CPU_CAPABILITY`` hides instructions that bfloat16's attention asks the processor for."""
    try:
        torch.nn.functional.scaled_dot_product_attention(*torch.zeros(3, 1, 1, 64, 32, dtype=torch.bfloat16))
    except RuntimeError as error:
        return "is only supported when avx512" not in str(error)
    return True


def _layers(*modules: nn.Module) -> list[nn.Module]:
    return [layer for module in modules for layer in module.modules() if not any(layer.children())]


def _summands(layer: nn.Module) -> int:
    weight = getattr(layer, "weight", None)
    return weight[0].numel() if isinstance(weight, Tensor) and weight.ndim > 1 else 1
