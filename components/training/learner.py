"""The learner: frozen models, adapter, optimizer, and the training step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.checkpoint import load_state, save_state, step_generator
from components.config import Config, TrainingConfig
from components.model.adapter import RealCustomAdapter
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import VisionEncoder, encoder_channels, encoder_identity
from components.precision import autocast, frozen_dtype
from components.training.dataset_rows import Batch
from components.training.encoding import StepEncoder, skip_transforms
from components.training.objective import Encode, Example, SubjectDenoiser, diffusion_loss, draw_example
from components.training.sharding import DistributedAdapter
from components.training.transfer import to_device
from components.training.unconditional import encode_unconditional


@dataclass(frozen=True)
class StepResult:
    """The result of a step on one worker: losses by lane, the norm of the global gradient, the learning rate.

    The tensors are on the worker's device. Reading a property waits for the step.
    """

    losses: dict[int, Tensor]
    gradient_norm: Tensor
    learning_rate: float

    @property
    def loss(self) -> float:
        """The mean over the lanes, in float64: the same however the lanes are divided among workers."""
        return float(torch.stack(list(self.losses.values())).double().mean())

    @property
    def finite(self) -> bool:
        """Whether the gradient was finite; the same on every worker. If not, the state after the step is of no use."""
        return bool(self.gradient_norm.isfinite())


class Learner:
    """The training state and step, without data loading and logging."""

    def __init__(self, config: Config, device: torch.device, absent: UnconditionalInputs | None = None) -> None:
        training = config.training
        self.config, self.device = training, device
        self._config = config
        self._encoder: StepEncoder | None = None
        self.absent = (absent or encode_unconditional(config)).to(device)
        torch.manual_seed(training.seed)
        #: Precision of the frozen parts; the adapter and its optimizer are in float32.
        self.weight_dtype = frozen_dtype(config.model.dtype, device, training.bf16)
        unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet", dtype=self.weight_dtype)
        if training.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        adapter = initial_adapter(config, unet)
        self.noise = DDPMScheduler.from_pretrained(config.model.base, subfolder="scheduler")
        self.shared = DistributedAdapter(SubjectDenoiser(unet, adapter).to(device), training.sharding)
        self.optimizer = make_optimizer(list(self.shared.adapter.parameters()), training)

    def train_step(self, step: int, micro_batches: Sequence[tuple[int, Batch]]) -> StepResult:
        """Train on this worker's ``micro_batches`` by lane.

        On a GPU nothing here waits for the device after the first step, so that an update by a gradient that is not
        finite is found out later, by `StepResult.finite`; on a CPU it is left out.
        """
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
        if self.device.type != "cpu" or norm.isfinite():
            self.optimizer.step()
            self.shared.average(min(config.ema, (1 + step) / (10 + step)))
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(losses, norm, rate)

    def example(self, rows: Batch, config: TrainingConfig, progress: float, generator: torch.Generator) -> Example:
        """The training example of ``rows`` on the device, where pixels are encoded first."""
        rows = {name: to_device(value, self.device) for name, value in rows.items()}
        if "cutout" in rows and self._encoder is None:
            self._encoder = StepEncoder(self._config, self.load_vision(), self.device)
        encode: Encode | None = self._encoder if "cutout" in rows else None
        if encode is None and "other_deep" not in rows:  # encoded on the way, see `reference_stage`
            encode = self._skip_transforms
        return draw_example(rows, self.absent, config, progress, generator, encode)

    def _skip_transforms(self, rows: Batch, _other: Tensor, progress: float, generator: torch.Generator) -> Batch:
        return skip_transforms(rows, progress, self.config.curriculum, generator)

    def release_validation_encoder(self) -> None:
        """Free the vision encoder of the validation's references where those of the steps are encoded elsewhere."""
        if self.config.encoders:
            self._encoder = None

    def load_vision(self) -> VisionEncoder:
        """The vision encoder: that of the steps if they encode, else one that the caller alone holds."""
        if self._encoder is not None:
            return self._encoder.vision
        return VisionEncoder.load(self._config.model, self._config.vision, self.weight_dtype).to(self.device)

    def save(self, directory: Path, step: int, write: bool) -> None:
        """Save the state after ``step`` steps. If it is sharded, every worker writes its own part."""
        if write or self.shared.sharded:
            save_state(directory, self.shared.modules, self.optimizer, {"step": step})

    def load(self, directory: Path) -> int:
        """Load a saved state; returns the number of finished steps."""
        return int(load_state(directory, self.shared.modules, self.optimizer)["step"])


def make_optimizer(parameters: list[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """The configured optimizer.

    AdamW keeps two more numbers for each parameter, in float32. Adafactor (Shazeer and Stern 2018) keeps one for each
    row and column of a matrix, and updates in proportion to the parameters' own size.
    """
    if training.optimizer == "adafactor":
        return torch.optim.Adafactor(parameters, training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)


def learning_rate_factor(step: int, training: TrainingConfig) -> float:
    """Factor of the learning rate at ``step``: a linear warm-up, then a cosine to a tenth."""
    if step < training.warmup:
        return (step + 1) / training.warmup
    done = (step - training.warmup) / max(1, training.steps - training.warmup)
    return 0.1 + 0.45 * (1 + cos(done * pi))


def _attention(device: torch.device):  # type: ignore[no-untyped-def]
    """The math backend on a CPU, where fused attention has a slow backward pass (docs/explanation/experiments.md)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def initial_adapter(config: Config, unet: UNet2DConditionModel) -> RealCustomAdapter:
    """The adapter that training starts from: ``model.adapter``, or a new one. No encoder is loaded."""
    if config.model.adapter:
        adapter = RealCustomAdapter.from_pretrained(config.model.adapter)
        adapter.forget_no_subject()
        return adapter
    identity = encoder_identity(config.model, config.vision)
    return RealCustomAdapter.for_unet(unet, encoder_channels(config.model), config.adapter, identity)
