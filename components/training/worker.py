"""What one Ray Train worker does: rows in, gradients shared, checkpoints out."""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from mlflow import MlflowClient
from PIL import Image
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.config import Config, TrainingConfig
from components.model.adapter import RealCustomAdapter
from components.model.text import encode_prompts
from components.model.vision import VisionEncoder
from components.precision import autocast
from components.progress import quiet_libraries
from components.registry import tracking
from components.training.batches import dataset_name, draw_batches
from components.training.curriculum import multi_view_share
from components.training.objective import Absent, SubjectDenoiser, diffusion_loss, draw_example
from components.training.samples import sample_grid
from components.training.state import load_state, save_state, step_generator

logger = logging.getLogger(__name__)


def train_worker(job: dict[str, Any]) -> None:
    """Run the training of ``job`` (``config``, ``rows`` by bucket, ``run_id``, ``progress_file``) on this worker."""
    quiet_libraries()
    config, run_id = Config(**job["config"]), job["run_id"]
    training = config.training
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    torch.set_num_threads(training.cpus_per_worker)
    torch.manual_seed(training.seed)

    unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet", dtype=torch.float32)
    vision = VisionEncoder.from_config(config.model, config.vision)
    if config.model.adapter:
        adapter = RealCustomAdapter.from_pretrained(config.model.adapter)
    else:
        adapter = RealCustomAdapter.for_unet(unet, vision.channels, config.adapter, vision.identity)
    absent = _absent(config, vision)
    denoiser = SubjectDenoiser(unet, adapter).to(device)
    averaged = copy.deepcopy(adapter).requires_grad_(False)
    optimizer = torch.optim.AdamW(adapter.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    modules: dict[str, nn.Module] = {"adapter": adapter, "ema": averaged}
    start = 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            start = int(load_state(Path(directory), modules, optimizer)["step"])
    wrapped = ray.train.torch.prepare_model(denoiser)
    noise = DDPMScheduler.from_pretrained(config.model.base, subfolder="scheduler")
    precision = autocast(device, training.bf16)
    log = _Log(config, run_id, Path(job["progress_file"])) if rank == 0 else None

    buckets = {name: ray.train.get_dataset_shard(dataset_name(name)) for name in job["rows"]}
    batches = draw_batches(buckets, job["rows"], training.batch_size, training.seed, rank, world, start)
    for step in range(start, training.steps):
        began = time.monotonic()
        rows = next(batches)
        waited = time.monotonic() - began
        rate = training.learning_rate * _warmed(step, training)
        for group in optimizer.param_groups:
            group["lr"] = rate
        progress = step / training.steps
        generator = step_generator(training.seed, step, rank)
        example = draw_example(rows, absent, training, progress, generator)
        # The fused attention's backward pass is slow on a CPU (docs/experiments.md).
        with precision, sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext():
            loss = diffusion_loss(wrapped, example, noise, generator, device)
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(training.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(averaged.parameters()), list(adapter.parameters()), 1 - decay)
        done = step + 1
        if log is not None:
            seconds = time.monotonic() - began
            log.step(
                done,
                {
                    "loss": loss.item(),
                    "gradient_norm": float(gradient),
                    "learning_rate": rate,
                    "multi_view_share": multi_view_share(progress, training.curriculum),
                    "samples_per_second": training.batch_size * world / seconds,
                    "data_wait_share": waited / seconds,
                },
            )
            if done % training.sample_every == 0 or done == training.steps:
                log.grid(done, sample_grid(config, averaged, vision))
        if done % training.checkpoint_every == 0 or done == training.steps:
            _report(modules, optimizer, done, loss.item(), rank)


def _absent(config: Config, vision: VisionEncoder) -> Absent:
    side = vision.reference_size
    base = StableDiffusionXLPipeline.from_pretrained(config.model.base, unet=None, vae=None, dtype=torch.float32)
    text = encode_prompts(base, [""])
    return Absent(vision.encode_pictures([Image.new("RGB", (side, side))]), text.tokens, text.pooled)


def _warmed(step: int, training: TrainingConfig) -> float:
    """Share of the learning rate at ``step``: a linear warm-up, then a cosine to a tenth."""
    if step < training.warmup:
        return (step + 1) / training.warmup
    done = (step - training.warmup) / max(1, training.steps - training.warmup)
    return 0.1 + 0.45 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))


def _report(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, step: int, loss: float, rank: int) -> None:
    metrics = {"step": step, "loss": loss}
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "state"
        save_state(directory, modules, optimizer, {"step": step})
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))


class _Log:
    """Rank 0's words to the outside: MLflow, and a small file that the driver's progress bar follows."""

    def __init__(self, config: Config, run_id: str, progress_file: Path) -> None:
        self.store: MlflowClient = tracking.client(config.registry)
        self.run_id, self.progress_file, self.total = run_id, progress_file, config.training.steps

    def step(self, step: int, metrics: dict[str, float]) -> None:
        partial = self.progress_file.with_suffix(".partial")
        partial.write_text(json.dumps({"step": step, "total": self.total, "loss": metrics["loss"]}))
        os.replace(partial, self.progress_file)
        if step % 10 == 0 or step == self.total:
            for name, value in metrics.items():
                self.store.log_metric(self.run_id, name, value, step=step)

    def grid(self, step: int, picture: Image.Image) -> None:
        self.store.log_image(self.run_id, picture, artifact_file=f"samples/step_{step:06d}.png")
