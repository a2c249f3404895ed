"""`train`: a Ray Train run of `train_worker`, from a prepared dataset to an adapter directory."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from diffusers import UNet2DConditionModel
from ray.train.torch import TorchTrainer

from components.checkpoint import load_module, read_progress
from components.cluster import connect, may_grow
from components.config import Config, for_workers
from components.data.manifest import load_manifest
from components.data.stage_versions import DENOISING, base_identity
from components.errors import DataError, RegistryError, TrainingError
from components.model.adapter import RealCustomAdapter
from components.model.unconditional_inputs import UnconditionalInputs
from components.model.vision import encoder_identity
from components.sigterm import on_sigterm
from components.training.curriculum import draw_curriculum
from components.training.dataset_rows import find_rows
from components.training.input_checks import check_compatibility, holds_pixels
from components.training.journal import Journal, deliver_to
from components.training.learner import initial_adapter
from components.training.progress_display import follow
from components.training.resources import check_resources, worker_resources
from components.training.run_directory import RunDirectory
from components.training.tracker import Tracker
from components.training.unconditional import provide_unconditional
from components.training.worker import WorkerTask, train_worker

logger = logging.getLogger(__name__)
#: Settings that do not change the result of a run, but where it lies, and how and by what it is computed.
_NOT_FINGERPRINTED = {
    "dataset", "output", "name", "use_gpu", "workers", "min_workers", "accumulation", "cpus_per_worker", "sharding",
    "gradient_checkpointing", "resize_every_s", "max_failures", "checkpoint_every", "checkpoints_kept", "sample_every",
    "sample_references", "sample_columns", "ingest_gb", "encoders", "encoder_gpus", "encoder_cpus",
}  # fmt: skip
#: Those that the fingerprints up to release 0.2.0 left out, and those that these releases did not have.
_NOT_FINGERPRINTED_0_2 = {
    "dataset", "output", "name", "use_gpu", "min_workers", "resize_every_s", "max_failures", "checkpoints_kept",
    "optimizer", "sample_references", "sample_columns", "ingest_gb", "encoders", "encoder_gpus", "encoder_cpus",
}  # fmt: skip


@dataclass(frozen=True)
class TrainedAdapter:
    """A finished training: the adapter's directory, the tracker's run, and the training's fingerprint."""

    adapter: Path
    run_id: str
    fingerprint: str
    #: The adapter with the lowest validation loss; None without validation.
    best: Path | None = None


def training_fingerprint(config: Config) -> str:
    """The fingerprint of a training: its dataset, frozen models, initial adapter, and settings that change its result.

    The base model's autoencoder and text encoders are part of the dataset's fingerprint, and so are the vision encoders
    unless they encode in training. A run that an earlier release began, under the fingerprint of its own, keeps that
    one.

    Raises:
        DataError: ``training.dataset`` is no prepared dataset.
        ArtifactError: ``model.base`` is a path without a pipeline in it, or ``model.adapter`` no adapter.
    """
    manifest = load_manifest(config.training.dataset)
    # The adapter's own configuration, not `config.adapter`, decides what is trained further.
    start = RealCustomAdapter.from_pretrained(config.model.adapter).digest if config.model.adapter else None
    facts = [manifest.fingerprint, start or "untrained"]
    settings = config.training.model_dump(mode="json", exclude=_NOT_FINGERPRINTED) | {"lanes": config.training.lanes}
    rest: list[Any] = [None if start else config.adapter.model_dump(), settings, config.model.dtype]
    if holds_pixels(manifest):
        rest.append(encoder_identity(config.model, config.vision))
    # Earlier ones held where the base model lies.
    in_0_2 = config.training.model_dump(mode="json", exclude=_NOT_FINGERPRINTED_0_2)
    for earlier in (
        [*facts, config.model.base, config.adapter.model_dump(), in_0_2, *_not_float32(config)],
        [*facts, config.model.base, *rest],
    ):
        known = _digest(earlier)
        if RunDirectory(config.training.output, f"{config.training.name}-{known}").run.exists():
            return known
    return _digest([*facts, base_identity(config.model.base, DENOISING), *rest])


def _not_float32(config: Config) -> list[str]:
    return [] if config.model.dtype == "float32" else [config.model.dtype]


def _digest(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def train(config: Config, tracker: Tracker) -> TrainedAdapter:
    """Fit the adapter on ``config.training.dataset``.

    A killed run with the same name and settings resumes from its last checkpoint, in the same run of ``tracker``.

    Args:
        tracker: the driver's; the first worker makes its own by `Tracker.factory`.

    Raises:
        DataError: the dataset is missing, too small for one step, or made with other encoders.
        ArtifactError: ``model.adapter`` does not fit the encoders, the base model or the dataset.
        ConfigError: a local Ray lacks resources that workers or encoder processes reserve.
        RegistryError: ``tracker`` cannot create the run.
        TrainingError: it was stopped before its last step, or a gradient was not finite.
    """
    training = config.training
    manifest, needed = load_manifest(training.dataset), training.lanes * training.batch_size
    if manifest.splits.get("train", 0) < needed:
        raise DataError(
            f"training.dataset has {manifest.splits.get('train', 0)} training rows, but a step of {training.lanes} "
            f"micro-batches of {training.batch_size} needs {needed}: lower training.batch_size or prepare more rows"
        )
    check_compatibility(config, manifest)
    connect(training.workers * ceil(training.cpus_per_worker + training.encoders * training.encoder_cpus) + 2)
    check_resources(training, ray.cluster_resources(), may_grow())
    fingerprint = training_fingerprint(config)
    run_directory = RunDirectory(training.output.absolute(), f"{training.name}-{fingerprint}")
    run_directory.root.mkdir(parents=True, exist_ok=True)
    for left_over in (run_directory.progress, run_directory.stop):  # of an earlier, killed attempt
        left_over.unlink(missing_ok=True)
    provide_unconditional(config, manifest, run_directory.unconditional)
    run_id = _open_run(config, run_directory, tracker)
    rows = find_rows(training.dataset, training)
    trainer = _trainer(config, WorkerTask(for_workers(config), rows, run_id, run_directory, tracker.factory))
    try:
        with _followed(run_directory), on_sigterm(run_directory.stop.touch):  # the workers save and stop
            result = trainer.fit()
        best = _finish(config, run_directory, result.checkpoint)
    except BaseException:
        if _flush(tracker, run_directory, run_id):
            tracker.fail_run(run_id)
        raise
    if _flush(tracker, run_directory, run_id):
        tracker.finish_run(run_id)
    return TrainedAdapter(run_directory.adapter, run_id, fingerprint, best)


def _trainer(config: Config, job: WorkerTask) -> TorchTrainer:
    training = config.training
    workers = training.workers if training.min_workers is None else (training.min_workers, training.workers)
    return TorchTrainer(
        train_worker,
        train_loop_config={"task": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=training.use_gpu,
            resources_per_worker=worker_resources(training),
            elastic_resize_monitor_interval_s=training.resize_every_s,
        ),
        run_config=ray.train.RunConfig(
            name=job.run_directory.name,
            storage_path=str(job.run_directory.root),
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=training.checkpoints_kept),
        ),
    )


@contextmanager
def _followed(run_directory: RunDirectory) -> Iterator[None]:
    """Show the progress of the workers."""
    finished = threading.Event()
    watcher = threading.Thread(target=follow, args=(run_directory.progress, finished, "train"), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _finish(config: Config, run_directory: RunDirectory, checkpoint: ray.train.Checkpoint | None) -> Path | None:
    """Write the adapters of the last state and of the best one; returns the directory of the latter.

    Raises:
        TrainingError: the training has not reached its last step.
    """
    if run_directory.not_finite.exists() and any(run_directory.not_finite.iterdir()):
        raise TrainingError(
            f"a gradient was not finite; the rows of that step are listed in {run_directory.not_finite}. Check them, "
            "or lower training.learning_rate; then remove that directory and run again to resume from the last "
            "checkpoint"
        )
    step = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            step = read_progress(Path(directory))["step"]
            if step == config.training.steps:
                adapter = _initial_adapter(config)
                _write_adapter(config, adapter, Path(directory), run_directory, run_directory.adapter)
    if step < config.training.steps:
        raise TrainingError(f"training was stopped after step {step}, which is saved: run the same command to resume")
    if not run_directory.best.exists():
        return None
    _write_adapter(config, adapter, run_directory.best, run_directory, run_directory.best_adapter)
    return run_directory.best_adapter


def _flush(tracker: Tracker, run_directory: RunDirectory, run_id: str) -> bool:
    """Deliver the entries that the workers could not deliver; False if that fails again."""
    try:
        Journal(run_directory.journal, deliver_to(tracker, run_id)).flush()
    except RegistryError as error:
        logger.warning(
            "metrics were not delivered (%s); they are stored in %s: run the same command again to deliver them",
            error,
            run_directory.journal,
        )
        return False
    return True


def _open_run(config: Config, run_directory: RunDirectory, tracker: Tracker) -> str:
    """The id of this training's run: the one stored in its directory, or a new one."""
    if run_directory.run.exists():
        run_id = run_directory.run.read_text()
        tracker.resume_run(run_id)
        return run_id
    settings = {f"training.{key}": value for key, value in config.training.model_dump(mode="json").items()}
    run_id = tracker.start_run(run_directory.name, settings, config.training.dataset)
    tracker.log_figure(run_id, draw_curriculum(config.training.curriculum), "plots/curriculum.png")
    run_directory.run.write_text(run_id)
    return run_id


def _initial_adapter(config: Config) -> RealCustomAdapter:
    """The adapter that training started from; of the U-Net, its configuration is enough."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config.model.base, subfolder="unet"))
    return initial_adapter(config, unet)


def _write_adapter(
    config: Config, adapter: RealCustomAdapter, state: Path, run_directory: RunDirectory, directory: Path
) -> None:
    """Load a state's averaged parameters into ``adapter``; save it with its encoders and tokens of "no subject"."""
    load_module(state, "ema", adapter)
    identity = encoder_identity(config.model, config.vision)
    if adapter.encoder_identity is None:  # converted weights, which have met their encoders in this training
        adapter.register_to_config(encoder_identity=identity)
    black = UnconditionalInputs.read(run_directory.unconditional).vision
    adapter.eval().store_no_subject(black, identity)
    adapter.save_pretrained(directory)
