"""The learner: frozen models, adapter, optimizer, and the training step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import cos, isfinite, pi
from pathlib import Path

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.checkpoint import gather_state, load_state, step_generator, write_state
from components.config import Config, TrainingConfig
from components.model.adapter import RealCustomAdapter
from components.model.text import encode_prompts
from components.model.vision import VisionEncoder
from components.precision import autocast
from components.training.dataset_rows import Batch
from components.training.encoding import StepEncoder
from components.training.objective import Example, SubjectDenoiser, UnconditionalInputs, diffusion_loss, draw_example
from components.training.sharding import DistributedAdapter


@dataclass(frozen=True)
class StepResult:
    """The result of a step on one worker: mean losses by lane, the norm of the global gradient, the learning rate."""

    losses: dict[int, float]
    gradient_norm: float
    learning_rate: float

    @property
    def loss(self) -> float:
        return sum(self.losses.values()) / len(self.losses)

    @property
    def finite(self) -> bool:
        """Whether the parameters were updated; the same on every worker."""
        return isfinite(self.gradient_norm)


class Learner:
    """The training state and step, without data loading and logging."""

    def __init__(self, config: Config, device: torch.device) -> None:
        training = config.training
        self.config, self.device = training, device
        self._config = config
        self._encoder: StepEncoder | None = None
        torch.manual_seed(training.seed)
        unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet", dtype=torch.float32)
        if training.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self.vision = VisionEncoder.load(config.model, config.vision)
        if config.model.adapter:
            adapter = RealCustomAdapter.from_pretrained(config.model.adapter)
        else:
            adapter = RealCustomAdapter.for_unet(unet, self.vision.channels, config.adapter, self.vision.identity)
        self.absent = unconditional_inputs(config, self.vision)
        self.noise = DDPMScheduler.from_pretrained(config.model.base, subfolder="scheduler")
        self.shared = DistributedAdapter(SubjectDenoiser(unet, adapter).to(device), training.sharding)
        parameters = list(self.shared.adapter.parameters())
        self.optimizer = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)

    def train_step(self, step: int, micro_batches: Sequence[tuple[int, Batch]]) -> StepResult:
        """Train on this worker's ``micro_batches`` by lane; without an update if the gradient is not finite."""
        config, lanes, losses = self.config, self.config.lanes, {}
        rate = config.learning_rate * learning_rate_factor(step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for index, (lane, rows) in enumerate(micro_batches):
            generator = step_generator(config.seed, step, lane)
            example = self.example(rows, config, step / config.steps, generator)
            # The attention backend is the same when checkpointed activations are recomputed in the backward pass.
            with self.shared.micro_batch(last=index + 1 == len(micro_batches)), _attention(self.device):
                with autocast(self.device, config.bf16):
                    loss = diffusion_loss(
                        self.shared.denoiser, example, self.noise, generator, self.device, config.min_snr
                    )
                # Gradients are averaged over workers; the gradient of a step is the mean over its lanes.
                (loss * (self.shared.world / lanes)).backward()  # type: ignore[no-untyped-call]
            losses[lane] = loss.detach()
        norm = self.shared.clip_gradient(config.max_gradient_norm)
        if isfinite(norm):
            self.optimizer.step()
            self.shared.average(min(config.ema, (1 + step) / (10 + step)))
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult({lane: float(loss) for lane, loss in losses.items()}, norm, rate)

    def example(self, rows: Batch, config: TrainingConfig, progress: float, generator: torch.Generator) -> Example:
        """The training example of ``rows``, which are encoded first if they contain pixels."""
        if "picture" in rows and self._encoder is None:
            self._encoder = StepEncoder(self._config, self.vision, self.device)
        encode = self._encoder if "picture" in rows else None
        return draw_example(rows, self.absent, config, progress, generator, encode)

    def save(self, directory: Path, step: int, write: bool) -> None:
        """Save the state after ``step`` steps. If it is sharded, every worker must call; one writes."""
        if write or self.shared.sharded:
            tensors = gather_state(self.shared.modules, self.optimizer)
            if write:
                write_state(directory, tensors, {"step": step})

    def load(self, directory: Path) -> int:
        """Load a saved state; returns the number of finished steps."""
        return int(load_state(directory, self.shared.modules, self.optimizer)["step"])


def learning_rate_factor(step: int, training: TrainingConfig) -> float:
    """Factor of the learning rate at ``step``: a linear warm-up, then a cosine to a tenth."""
    if step < training.warmup:
        return (step + 1) / training.warmup
    done = (step - training.warmup) / max(1, training.steps - training.warmup)
    return 0.1 + 0.45 * (1 + cos(done * pi))


def _attention(device: torch.device):  # type: ignore[no-untyped-def]
    """The math backend on a CPU, where fused attention has a slow backward pass (docs/explanation/experiments.md)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def unconditional_inputs(config: Config, vision: VisionEncoder) -> UnconditionalInputs:
    """Features of a black reference and of an empty prompt."""
    side = vision.reference_size
    base = StableDiffusionXLPipeline.from_pretrained(config.model.base, unet=None, vae=None, dtype=torch.float32)
    text = encode_prompts(base, [""])
    return UnconditionalInputs(vision.encode_images([Image.new("RGB", (side, side))]), text.tokens, text.pooled)
