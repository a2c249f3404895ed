"""`train`: the Ray Train run around `train_worker`, from a prepared dataset to an adapter directory."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from diffusers import UNet2DConditionModel
from mlflow.exceptions import MlflowException
from ray.train.torch import TorchTrainer

from components.checkpoint import load_module, read_progress
from components.cluster import connect
from components.config import Config, for_workers
from components.data.manifest import load_manifest
from components.errors import DataError, TrainingError
from components.model.adapter import RealCustomAdapter
from components.model.vision import VisionEncoder
from components.registry import origin, tracking
from components.registry.datasets import log_dataset
from components.registry.plots import log_curves
from components.training.curriculum import draw_curriculum
from components.training.journal import Journal, to_mlflow
from components.training.rows import find_rows
from components.training.run_directory import RunDirectory
from components.training.watch import follow
from components.training.worker import Job, train_worker

logger = logging.getLogger(__name__)
#: Settings that change what a run costs, and not what comes out of it.
_INDIFFERENT = {
    "dataset", "output", "name", "use_gpu", "min_workers", "resize_every_s", "max_failures", "checkpoints_kept",
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A finished training: the adapter's directory, the MLflow run, and what it was trained from."""

    adapter: Path
    run_id: str
    fingerprint: str
    #: The adapter with the least validation loss; none without a validation.
    best: Path | None = None


def training_fingerprint(config: Config) -> str:
    """Names a training by its dataset, its frozen parts, its starting point and its settings."""
    manifest = load_manifest(config.training.dataset)
    start = RealCustomAdapter.from_pretrained(config.model.adapter).digest if config.model.adapter else "untrained"
    settings = config.training.model_dump(mode="json", exclude=_INDIFFERENT)
    facts = [manifest.fingerprint, start, config.model.base, config.adapter.model_dump(), settings]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def train(config: Config) -> Trained:
    """Fit the adapter on ``config.training.dataset``.

    A killed run with the same name and settings goes on from its last checkpoint, in the same MLflow run.

    Raises:
        DataError: the dataset is missing, or too small for one step.
        TrainingError: it was stopped before its end, or a gradient was not finite.
    """
    training = config.training
    manifest, needed = load_manifest(training.dataset), training.lanes * training.batch_size
    if manifest.splits.get("train", 0) < needed:
        raise DataError(
            f"training.dataset has {manifest.splits.get('train', 0)} training rows, but a step of {training.lanes} "
            f"micro-batches of {training.batch_size} needs {needed}: lower training.batch_size or prepare more rows"
        )
    connect(training.workers * training.cpus_per_worker + 2)
    fingerprint = training_fingerprint(config)
    place = RunDirectory(training.output.absolute(), f"{training.name}-{fingerprint}")
    place.root.mkdir(parents=True, exist_ok=True)
    for left_over in (place.progress, place.stop):  # of an earlier, killed attempt
        left_over.unlink(missing_ok=True)
    run_id = _run_id(config, place)
    store = tracking.client(config.registry)
    trainer = _trainer(config, Job(for_workers(config), find_rows(training.dataset, training), run_id, place))
    try:
        with _followed(place), _stopped_by_sigterm(place):
            result = trainer.fit()
        best = _finish(config, place, result.checkpoint)
    except BaseException:
        if _flush(config, place, run_id):
            store.set_terminated(run_id, "FAILED")
        raise
    if _flush(config, place, run_id):
        log_curves(config.registry, run_id)
        store.set_terminated(run_id, "FINISHED")
    return Trained(place.adapter, run_id, fingerprint, best)


def _trainer(config: Config, job: Job) -> TorchTrainer:
    training = config.training
    workers = training.workers if training.min_workers is None else (training.min_workers, training.workers)
    resources = {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=training.use_gpu,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=training.resize_every_s,
        ),
        run_config=ray.train.RunConfig(
            name=job.place.name,
            storage_path=str(job.place.root),
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=training.checkpoints_kept),
        ),
    )


@contextmanager
def _followed(place: RunDirectory) -> Iterator[None]:
    """Show the workers' progress."""
    finished = threading.Event()
    watcher = threading.Thread(target=follow, args=(place.progress, finished, "train"), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


@contextmanager
def _stopped_by_sigterm(place: RunDirectory) -> Iterator[None]:
    """Let SIGTERM, which ends a submitted job, make the workers save and end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_signal: int, _frame: Any) -> None:
        place.stop.touch()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _finish(config: Config, place: RunDirectory, checkpoint: ray.train.Checkpoint | None) -> Path | None:
    """Turn the last state into the adapter, and the best one into another, which is returned.

    Raises:
        TrainingError: the training is not at its end.
    """
    if place.not_finite.exists() and any(place.not_finite.iterdir()):
        raise TrainingError(
            f"a gradient was not finite; the rows of that step are listed in {place.not_finite}. Look at them, or "
            "lower training.learning_rate; remove the directory and run again to go on from the last checkpoint"
        )
    step = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            step = read_progress(Path(directory))["step"]
            if step == config.training.steps:
                _write_adapter(config, Path(directory), place.adapter)
    if step < config.training.steps:
        raise TrainingError(f"training was stopped after step {step}, which is saved: run the same command to go on")
    if not place.best.exists():
        return None
    _write_adapter(config, place.best, place.best_adapter)
    return place.best_adapter


def _flush(config: Config, place: RunDirectory, run_id: str) -> bool:
    """Deliver what the workers could not; False if MLflow still does not take it."""
    try:
        Journal(place.journal, to_mlflow(tracking.client(config.registry), run_id)).flush()
    except (MlflowException, OSError) as error:
        logger.warning("MLflow takes no metrics (%s): they are kept; run the same command again to deliver", error)
        return False
    return True


def _run_id(config: Config, place: RunDirectory) -> str:
    """The MLflow run of this training: the one noted in its place, or a new one."""
    store = tracking.client(config.registry)
    if place.run.exists():
        run_id = place.run.read_text()
        store.set_terminated(run_id, "RUNNING")
        return run_id
    settings = {f"training.{key}": value for key, value in config.training.model_dump(mode="json").items()}
    run_id = tracking.open_run(config, place.name, settings)
    directory = config.training.dataset
    log_dataset(store, run_id, directory, load_manifest(directory), "training")
    origin.tag_run(store, run_id, origin.origin(config, run_id))
    store.log_figure(run_id, draw_curriculum(config.training.curriculum), "plots/curriculum.png")
    place.run.write_text(run_id)
    return run_id


def _write_adapter(config: Config, state: Path, adapter: Path) -> None:
    """Save the averaged adapter of a training state."""
    unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet")
    vision = VisionEncoder.load(config.model, config.vision)
    averaged = RealCustomAdapter.for_unet(unet, vision.channels, config.adapter, vision.identity)
    load_module(state, "ema", averaged)
    averaged.save_pretrained(adapter)
