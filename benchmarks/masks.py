"""Agreement of faster schedules of influence masks with the plain schedule, on the trained miniature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.inputs import DenoisingInputs, denoise, toy_inputs
from benchmarks.peers.ours import Ours
from benchmarks.peers.plain import PlainPredictor
from components.config import Config, GuidanceConfig
from components.evaluation.statistics import Estimate, mean
from components.evaluation.toybench import cases

_BATCH = 24


def mask_agreement(
    config: Config, variants: Mapping[str, GuidanceConfig], count: int, seed: int, steps: int
) -> dict[str, Estimate]:
    """Overlap of the masks of each variant with the plain schedule's, over ``count`` toy prompts with unseen subjects.

    Both start from the same noise and diverge from there. Of every prompt the mean over the steps that find
    a mask; of these the mean, with its bootstrap interval.
    """
    test_cases = cases(count, seed, config)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in variants}
    for start in range(0, count, _BATCH):
        inputs = toy_inputs(config, test_cases[start : start + _BATCH])
        reference = plain_masks(inputs, steps)
        for name, guidance in variants.items():
            found = our_masks(inputs, guidance, steps)
            scores[name].append(overlap(found, reference)[: inputs.guidance.steps].mean(0).numpy())
    return {name: mean(np.concatenate(parts)) for name, parts in scores.items()}


def overlap(masks: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of the positions kept, [..., H, W] twice to [...]."""
    kept, other = masks > 0, others > 0
    return (kept & other).sum((-2, -1)) / (kept | other).sum((-2, -1)).clamp(min=1)


def plain_masks(inputs: DenoisingInputs, steps: int) -> Tensor:
    """The plain schedule's mask of every step, [steps, b, H, W]."""
    predictor, masks = PlainPredictor(inputs), []

    def keep() -> None:
        assert predictor.mask is not None
        masks.append(predictor.mask[:, 0])

    denoise(inputs, predictor, steps, keep)
    return torch.stack(masks)


def our_masks(inputs: DenoisingInputs, guidance: GuidanceConfig, steps: int) -> Tensor:
    """Our mask of every step, [steps, b, H, W]."""
    predictor, masks = Ours(inputs, guidance).predictor(), []

    def keep() -> None:
        assert predictor.masks is not None
        masks.append(predictor.masks[:, 0])

    denoise(inputs, predictor, steps, keep)
    return torch.stack(masks)
