"""How the adapter is trained, and before it the miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from components.config.section import Section


class PretrainingSteps(Section):
    """Training steps of each part of the miniature."""

    vae: int = Field(1500, ge=1)
    decoder: int = Field(1300, ge=1)
    siglip: int = Field(900, ge=1)
    dinov2: int = Field(500, ge=1)
    recognizer: int = Field(500, ge=1)
    evaluation_identity: int = Field(700, ge=1)
    base: int = Field(9700, ge=1)


class PretrainingConfig(Section):
    """How the miniature itself is made (an hour or two on two cores; its result ships with the code)."""

    output: Path = Path("runs/miniature")
    work: Path = Path("runs/pretraining")
    scenes: int = Field(24_000, ge=100)
    identities: int = Field(3_000, ge=100)
    threads: int = Field(2, ge=1)
    quality_prompts: int = Field(500, ge=1)
    steps: PretrainingSteps = PretrainingSteps()


class CurriculumConfig(Section):
    """From easy to hard: the share of multi-view references goes from ``start`` to ``end`` over ``ramp`` of the run."""

    start: float = Field(0.2, ge=0, le=1)
    end: float = Field(0.9, ge=0, le=1)
    ramp: float = Field(0.5, gt=0, le=1)
    #: How far references are turned (degrees), scaled (factor less 1) and shifted (share of their side) at the end,
    #: from nothing at the start. Only references that are encoded in the step (``data.encode=text``) can be moved.
    rotation: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, le=1)
    shift: float = Field(0.0, ge=0, le=0.5)


class TrainingConfig(Section):
    dataset: Path = Path("runs/prepared")
    output: Path = Path("runs/training")
    name: str = Field("adapter", pattern=r"^[A-Za-z0-9._-]+$")
    workers: int = Field(1, ge=1)
    #: Go on with so few workers while the others are missing; none given waits for all of them.
    min_workers: int | None = Field(None, ge=1)
    #: Seconds between looks for workers that came back.
    resize_every_s: float = Field(60, ge=0)
    use_gpu: bool = False
    cpus_per_worker: int = Field(1, ge=1)
    steps: int = Field(160_000, ge=1)
    #: Rows of a micro-batch.
    batch_size: int = Field(4, ge=1)
    #: Micro-batches of a worker and step while all workers are there.
    accumulation: int = Field(1, ge=1)
    #: The adapter, its gradients and its optimizer: whole on each worker, or shared out among them.
    sharding: Literal["ddp", "fsdp"] = "ddp"
    #: Compute the U-Net's activations again in the backward pass rather than keep them.
    gradient_checkpointing: bool = False
    learning_rate: float = Field(1e-5, gt=0)
    warmup: int = Field(500, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    #: Gamma of the min-SNR weighting of timesteps; none weights them alike.
    min_snr: float | None = Field(None, gt=0)
    #: Chance that a row is trained without its reference (Algorithm: image-condition dropout).
    condition_dropout: float = Field(0.1, ge=0, le=1)
    text_dropout: float = Field(0.05, ge=0, le=1)
    #: Chance that a row whose reference has a face box is trained on its face or its body tokens alone, half each.
    group_dropout: float = Field(0.0, ge=0, le=1)
    #: Weight of the error on the subject, relative to 1 elsewhere.
    subject_weight: float = Field(1.0, gt=0)
    #: Mixed precision; `auto` where the hardware computes in bfloat16.
    bf16: bool | Literal["auto"] = "auto"
    seed: int = Field(0, ge=0)
    #: Rows of a lane that are shuffled together: more mix better and need more memory.
    shuffle_rows: int = Field(256, ge=1)
    checkpoint_every: int = Field(1000, ge=1)
    #: Of the newest checkpoints; the best adapter by validation is kept besides.
    checkpoints_kept: int = Field(2, ge=1)
    #: Most rows of the validation split that every checkpoint is judged by; 0 judges none.
    validation_rows: int = Field(64, ge=0)
    sample_every: int = Field(1000, ge=1)
    max_failures: int = Field(2, ge=0)
    curriculum: CurriculumConfig = CurriculumConfig()

    @property
    def lanes(self) -> int:
        """Micro-batches of a step, whatever the number of workers that are there."""
        return self.workers * self.accumulation

    @model_validator(mode="after")
    def _fewer_workers_are_fewer(self) -> TrainingConfig:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("min_workers must be at most workers")
        return self
