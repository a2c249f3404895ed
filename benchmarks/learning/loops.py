"""Training as a plain PyTorch script: one process, one loop, rows in memory.

Model, objective and optimizer are this project's, so a ratio measures the overhead of the training loop.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.config import Config
from components.model.adapter import RealCustomAdapter
from components.model.text import encode_prompts
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder
from components.precision import autocast
from components.training.dataset_rows import Batch, read_all
from components.training.objective import SubjectDenoiser, diffusion_loss, draw_example
from components.training.unconditional import unconditional_inputs
from components.world.write import PAIRS

#: Steps that are not timed.
WARM_UP = 10
_CPU = torch.device("cpu")


def plain_rate(config: Config) -> float:
    """Samples a second of a loop over prepared rows."""
    rows = read_all(config.training.dataset, "train")
    size, count = config.training.batch_size, len(rows["latents"])

    def batches() -> Iterator[Batch]:
        while True:
            for chosen in torch.randperm(count).split(size)[: count // size]:
                yield {name: column[chosen] for name, column in rows.items()}

    return _rate(config, batches())


def encoding_rate(config: Config) -> float:
    """Samples a second of a loop that encodes pictures, captions and references in every step, as IP-Adapter's does."""
    rows = read_all(config.training.dataset, "train")
    base = StableDiffusionXLPipeline.from_pretrained(config.model.base, unet=None, dtype=torch.float32)
    vision = VisionEncoder.load(config.model, config.vision)
    source, size = Path(config.data.source), config.training.batch_size
    pairs = [json.loads(line) for line in (source / PAIRS).read_text().splitlines()]
    pictures = [_pixels(source / pair["image"], config.data.image_size) for pair in pairs]
    references = [_pixels(source / pair["image"], vision.reference_size) for pair in pairs]
    count = min(len(pairs), len(rows["latents"]))

    @torch.no_grad()
    def encoded(chosen: list[int]) -> Batch:
        latents = base.vae.encode(torch.stack([pictures[i] for i in chosen])).latent_dist.mean
        text = encode_prompts(base, [pairs[i]["caption"] for i in chosen])
        features = vision(torch.stack([references[i] for i in chosen]))
        kept = {name: rows[name][chosen] for name in ("time_ids", "mask", "head", "face", "other_face")}
        return kept | {
            "latents": latents * base.vae.config.scaling_factor,
            "text_tokens": text.tokens,
            "text_pooled": text.pooled,
            "deep": features.deep,
            "local": features.local,
            "other_deep": features.deep,
            "other_local": features.local,
        }

    def batches() -> Iterator[Batch]:
        while True:
            for chosen in torch.randperm(count).split(size)[: count // size]:
                yield encoded(chosen.tolist())

    return _rate(config, batches())


def _rate(config: Config, batches: Iterator[Batch]) -> float:
    training = config.training
    torch.manual_seed(training.seed)
    unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet")
    vision = VisionEncoder.load(config.model, config.vision)
    adapter = RealCustomAdapter.for_unet(unet, vision.channels, config.adapter, vision.identity)
    denoiser, averaged = SubjectDenoiser(unet, adapter), copy.deepcopy(adapter).requires_grad_(False)
    optimizer = torch.optim.AdamW(adapter.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    noise = DDPMScheduler.from_pretrained(config.model.base, subfolder="scheduler")
    take = _step(config, denoiser, averaged, optimizer, noise, unconditional_inputs(config, vision))
    began = 0.0
    for step, rows in enumerate(islice(batches, training.steps)):
        if step == WARM_UP:
            began = time.perf_counter()
        take(rows, step / training.steps)
    return (training.steps - WARM_UP) * training.batch_size / (time.perf_counter() - began)


def _step(
    config: Config,
    denoiser: SubjectDenoiser,
    averaged: RealCustomAdapter,
    optimizer: torch.optim.Optimizer,
    noise: DDPMScheduler,
    absent: UnconditionalInputs,
) -> Callable[[Batch, float], None]:
    training, generator = config.training, torch.Generator().manual_seed(0)
    theirs: list[Tensor] = list(denoiser.adapter.parameters())
    ours: list[Tensor] = list(averaged.parameters())

    def take(rows: Batch, progress: float) -> None:
        example = draw_example(rows, absent, training, progress, generator)
        with autocast(_CPU, training.bf16), sdpa_kernel(SDPBackend.MATH):
            loss = diffusion_loss(denoiser, example, noise, generator, _CPU)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(denoiser.adapter.parameters(), training.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(ours, theirs, 1 - training.ema)

    return take


def _pixels(file: Path, side: int) -> Tensor:
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((side, side)), np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
