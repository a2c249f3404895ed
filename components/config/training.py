"""Training of the adapter, and of the miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from components.config.section import Section


class PretrainingSteps(Section):
    """Training steps of each part of the miniature."""

    vae: int = Field(1500, ge=1)
    """Steps of the autoencoder."""
    decoder: int = Field(1300, ge=1)
    """Further steps of the autoencoder's decoder alone."""
    siglip: int = Field(900, ge=1)
    """Steps of SigLIP."""
    dinov2: int = Field(500, ge=1)
    """Steps of DINOv2."""
    recognizer: int = Field(500, ge=1)
    """Steps of the recognizer, the judge of text control."""
    evaluation_identity: int = Field(700, ge=1)
    """Steps of the identity encoder, the judge of subject similarity."""
    base: int = Field(9700, ge=1)
    """Steps of the U-Net and its text encoders."""


class PretrainingConfig(Section):
    """Training of the miniature model (an hour or two on two cores; the result ships with the code)."""

    output: Path = Path("runs/miniature")
    """Directory of the trained miniature."""
    work: Path = Path("runs/pretraining")
    """Directory of intermediate states, from which a killed run resumes."""
    scenes: int = Field(24_000, ge=100)
    """Number of scenes with captions to train on."""
    identities: int = Field(3_000, ge=100)
    """Number of subjects to train the vision encoders on."""
    threads: int = Field(2, ge=1)
    """Number of torch threads."""
    quality_prompts: int = Field(500, ge=1)
    """Prompts of the final measurement."""
    steps: PretrainingSteps = PretrainingSteps()
    """Training steps of each part."""


class CurriculumConfig(Section):
    """Curriculum of references, from easy to difficult: multi-view references, and augmentation."""

    start: float = Field(0.2, ge=0, le=1)
    """Share of references that are another image of the subject (multi-view), at the start of the run."""
    end: float = Field(0.9, ge=0, le=1)
    """Share of multi-view references at the end of the ramp."""
    ramp: float = Field(0.5, gt=0, le=1)
    """Share of the run over which the curriculum goes from `start` to `end`."""
    rotation: float = Field(0.0, ge=0, le=180)
    """Maximum rotation of references in degrees at the end of the ramp, 0 at the start. Rotation, `scale` and
    `shift` need a dataset of ``data.encode=latents`` or ``text``."""
    scale: float = Field(0.0, ge=0, le=1)
    """Maximum change of the references' scale at the end of the ramp, as a factor less 1."""
    shift: float = Field(0.0, ge=0, le=0.5)
    """Maximum shift of references at the end of the ramp, as a share of their side."""


class TrainingConfig(Section):
    """Training of the adapter with Ray Train."""

    dataset: Path = Path("runs/prepared")
    """Prepared dataset to train on."""
    output: Path = Path("runs/training")
    """Directory of runs: checkpoints, metrics and the trained adapters."""
    name: str = Field("adapter", pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the run; part of the names of its directories."""
    workers: int = Field(1, ge=1)
    """Number of training workers."""
    min_workers: int | None = Field(None, ge=1)
    """Elastic training: continue with at least this many workers while others are missing; ``null`` waits for all of
    them."""
    resize_every_s: float = Field(60, ge=0)
    """Elastic training: seconds between checks for workers that are available again."""
    use_gpu: bool = False
    """Give every worker a GPU."""
    cpus_per_worker: int = Field(1, ge=1)
    """CPUs that every worker reserves."""
    steps: int = Field(160_000, ge=1)
    """Number of optimizer steps."""
    batch_size: int = Field(4, ge=1)
    """Rows of a micro-batch."""
    accumulation: int = Field(1, ge=1)
    """Gradient accumulation: micro-batches of a worker and step while all workers are present."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """Data parallelism of the adapter, its gradients and optimizer: replicated (``ddp``) or sharded among workers
    (``fsdp``)."""
    gradient_checkpointing: bool = False
    """Recompute the U-Net's activations in the backward pass to save memory."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """``adamw``, or ``adafactor``, whose state takes little memory, and whose learning rate is relative to the size of
    the parameters (not with ``sharding=fsdp``)."""
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate of the optimizer."""
    warmup: int = Field(500, ge=0)
    """Steps of linear warm-up; a cosine schedule follows."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the exponential moving average of the adapter's parameters; 0 turns it off."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of the optimizer."""
    min_snr: float | None = Field(None, gt=0)
    """Gamma of the min-SNR loss weighting (5 is usual); ``null`` weights all timesteps alike."""
    condition_dropout: float = Field(0.1, ge=0, le=1)
    """Probability that a row is trained without its reference."""
    text_dropout: float = Field(0.05, ge=0, le=1)
    """Probability that a row is trained with the empty caption."""
    group_dropout: float = Field(0.0, ge=0, le=1)
    """Probability that a row whose reference has a face box is trained on its face tokens or its body tokens alone."""
    subject_weight: float = Field(1.0, gt=0)
    """Weight of the loss at the subject's positions, relative to the others."""
    bf16: bool | Literal["auto"] = "auto"
    """Mixed precision in bfloat16; ``auto`` uses it where the hardware computes in it. Frozen parts are then stored in
    bfloat16 if `model.dtype` is; the adapter and its optimizer are always in float32."""
    seed: int = Field(0, ge=0)
    """Seed of initialisation, row order, noise, timesteps and dropout."""
    shuffle_rows: int = Field(256, ge=1)
    """Rows of a lane (one micro-batch stream) that are shuffled together; more mix better and need more memory."""
    ingest_gb: float = Field(8.0, gt=0)
    """Gigabytes of host memory that rows may take on their way to a worker: half of it waits in the worker, half is
    read and encoded in the object store. If a shuffled window of every bucket does not fit, windows are read in parts,
    and row groups several times."""
    encoders: int = Field(0, ge=0)
    """Processes of each worker that encode references while it trains (``data.encode=latents``); with 0 the worker
    encodes them in its steps."""
    encoder_gpus: float = Field(0, ge=0)
    """GPUs that each of `encoders` reserves (a fraction shares one)."""
    encoder_cpus: float = Field(1, gt=0)
    """CPUs that each of `encoders` reserves."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between two checkpoints."""
    checkpoints_kept: int = Field(2, ge=1)
    """Number of latest checkpoints to keep, besides the adapter with the lowest validation loss."""
    validation_rows: int = Field(64, ge=0)
    """Maximum number of validation rows evaluated at every checkpoint; 0 evaluates none."""
    sample_every: int = Field(1000, ge=0)
    """Steps between two grids of sample images, one more after the last step; 0 draws none."""
    sample_references: Path | None = None
    """Folder in the DreamBench layout, whose subjects and prompts the sample grids show; by default the first rows of
    the dataset's validation split."""
    sample_columns: int = Field(6, ge=1, le=32)
    """Number of images in a row of a sample grid."""
    max_failures: int = Field(2, ge=0)
    """Maximum number of worker failures that the run recovers from, each time from the last checkpoint."""
    curriculum: CurriculumConfig = CurriculumConfig()
    """Difficulty of references over the run."""

    @property
    def lanes(self) -> int:
        """Micro-batches of a step, independent of the number of workers present."""
        return self.workers * self.accumulation

    @model_validator(mode="after")
    def _fewer_workers_are_fewer(self) -> TrainingConfig:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("min_workers must be at most workers")
        return self

    @model_validator(mode="after")
    def _optimizer_can_be_sharded(self) -> TrainingConfig:
        if self.optimizer == "adafactor" and self.sharding == "fsdp":
            raise ValueError("optimizer=adafactor cannot be sharded: set sharding=ddp, or optimizer=adamw")
        return self
