"""`train`: the Ray Train run around `train_worker`, from a prepared dataset to an adapter directory."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import ray.train
from diffusers import UNet2DConditionModel
from ray.train.torch import TorchTrainer

from components.cluster import connect
from components.config import Config, for_workers
from components.data.manifest import load_manifest
from components.errors import DataError
from components.model.adapter import RealCustomAdapter
from components.model.vision import VisionEncoder
from components.registry import tracking
from components.registry.datasets import log_dataset
from components.training.batches import dataset_name, open_dataset, shared_out
from components.training.state import load_module
from components.training.watch import follow
from components.training.worker import train_worker


@dataclass(frozen=True)
class Trained:
    """A finished training: the adapter's directory, the MLflow run, and what it was trained from."""

    adapter: Path
    run_id: str
    fingerprint: str


def training_fingerprint(config: Config) -> str:
    """Names a training by its dataset, its frozen parts, its starting point and its settings."""
    manifest = load_manifest(config.training.dataset)
    start = RealCustomAdapter.from_pretrained(config.model.adapter).digest if config.model.adapter else "untrained"
    settings = config.training.model_dump(mode="json", exclude={"dataset", "output", "name", "max_failures"})
    facts = [manifest.fingerprint, start, config.model.base, config.adapter.model_dump(), settings]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def train(config: Config) -> Trained:
    """Fit the adapter on ``config.training.dataset``.

    A killed run with the same name and settings goes on from its last checkpoint, in the same MLflow run.

    Raises:
        DataError: the dataset is missing, or too small for one batch a worker.
    """
    training = config.training
    manifest = load_manifest(training.dataset)
    needed = training.workers * training.batch_size
    if manifest.splits.get("train", 0) < needed:
        raise DataError(
            f"training.dataset has {manifest.splits.get('train', 0)} training rows, but {training.workers} workers "
            f"with batches of {training.batch_size} need {needed}: lower training.batch_size or prepare more rows"
        )
    connect(training.workers * training.cpus_per_worker + 2)
    fingerprint = training_fingerprint(config)
    root = training.output.absolute()
    root.mkdir(parents=True, exist_ok=True)
    name = f"{training.name}-{fingerprint}"
    progress_file = root / f"{name}.progress.json"
    progress_file.unlink(missing_ok=True)  # of an earlier, killed attempt
    run_id = _run_id(config, root / f"{name}.run", name)

    datasets, rows = open_dataset(training.dataset)
    resources = {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "config": for_workers(config).model_dump(mode="json"),
            "rows": rows,
            "run_id": run_id,
            "progress_file": str(progress_file),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.workers, use_gpu=training.use_gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(root),
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
        datasets={dataset_name(bucket): dataset for bucket, dataset in datasets.items()},
        dataset_config=shared_out(rows, training.workers, training.batch_size),
    )
    finished = threading.Event()
    watcher = threading.Thread(target=follow, args=(progress_file, finished, "train"), daemon=True)
    watcher.start()
    store = tracking.client(config.registry)
    try:
        result = trainer.fit()
    except BaseException:
        store.set_terminated(run_id, "FAILED")
        raise
    finally:
        finished.set()
        watcher.join()
    assert result.checkpoint is not None
    adapter = root / f"{name}-adapter"
    with result.checkpoint.as_directory() as directory:
        _write_adapter(config, Path(directory), adapter)
    store.set_terminated(run_id, "FINISHED")
    return Trained(adapter, run_id, fingerprint)


def _run_id(config: Config, file: Path, name: str) -> str:
    """The MLflow run of this training: the one noted in ``file``, or a new one."""
    store = tracking.client(config.registry)
    if file.exists():
        run_id = file.read_text()
        store.set_terminated(run_id, "RUNNING")
        return run_id
    run = store.create_run(tracking.experiment_id(config.registry), run_name=name)
    store.log_dict(run.info.run_id, config.model_dump(mode="json"), "config.json")
    store.set_tag(run.info.run_id, "git_commit", tracking.git_commit())
    for key, value in config.training.model_dump(mode="json").items():
        store.log_param(run.info.run_id, f"training.{key}", value)
    directory = config.training.dataset
    log_dataset(store, run.info.run_id, directory, load_manifest(directory), "training")
    file.write_text(run.info.run_id)
    return run.info.run_id


def _write_adapter(config: Config, checkpoint: Path, adapter: Path) -> None:
    """Save the averaged adapter of a training state."""
    unet = UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet")
    vision = VisionEncoder.from_config(config.model, config.vision)
    averaged = RealCustomAdapter.for_unet(unet, vision.channels, config.adapter, vision.identity)
    load_module(checkpoint, "ema", averaged)
    averaged.save_pretrained(adapter)
