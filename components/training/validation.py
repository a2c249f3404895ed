"""The validation loss: the averaged adapter's error on rows of the validation split, with fixed noise."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from components.checkpoint import step_generator
from components.precision import autocast
from components.training.dataset_rows import held_out_batches
from components.training.learner import Learner
from components.training.objective import diffusion_loss

#: Offset of the training's seed for the noise of the validation.
_STREAM = 4


@torch.no_grad()
def validation_loss(learner: Learner, directory: Path) -> float | None:
    """Mean error over at most ``training.validation_rows`` rows, shared among workers; None if there are none.

    The curriculum is at its end, and nothing is dropped. Every worker must call.
    """
    config, shared = learner.config, learner.shared
    settings = config.model_copy(
        update={"condition_dropout": 0.0, "text_dropout": 0.0, "group_dropout": 0.0, "subject_weight": 1.0}
    )
    rank = dist.get_rank() if shared.world > 1 else 0
    total, rows = torch.zeros((), dtype=torch.float64, device=learner.device), 0
    with shared.averaged_denoiser() as denoiser, autocast(learner.device, config.bf16):
        batches = held_out_batches(directory, config.batch_size, config.validation_rows, rank, shared.world)
        for index, batch in batches:
            generator = step_generator(config.seed + _STREAM, index)
            example = learner.example(batch, settings, 1.0, generator)
            loss = diffusion_loss(denoiser, example, learner.noise, generator, learner.device, config.min_snr)
            count = len(batch["time_ids"])
            total, rows = total + loss.double() * count, rows + count
    learner.release_validation_encoder()
    sums = shared.gather([float(total), rows], learner.device)
    everything = sum(count for _, count in sums)
    return sum(part for part, _ in sums) / everything if everything else None
