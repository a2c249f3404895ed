"""The Ray Train worker: the training loop with logging and checkpoints."""

from __future__ import annotations

import json
import logging
import resource
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from components.checkpoint import read_progress, save_module
from components.config import Config
from components.files import write_whole
from components.model.unconditional_inputs import UnconditionalInputs
from components.progress import quiet_libraries
from components.training.batches import draw_batches
from components.training.bucket_order import bucket_at
from components.training.curriculum import multi_view_share
from components.training.dataset_rows import Rows, row_ids
from components.training.interruptions import Interruption, Interruptions
from components.training.journal import Journal, deliver_to
from components.training.learner import Learner, StepResult
from components.training.recent_steps import FinishedStep, RecentSteps
from components.training.reference_stage import ReferenceEncoders
from components.training.run_directory import RunDirectory
from components.training.sample_cases import SampleCase, sample_cases
from components.training.samples import sample_grid
from components.training.tracker import TrackerFactory
from components.training.validation import validation_loss
from components.training.window_reader import PLACE

logger = logging.getLogger(__name__)
#: Steps between metrics, and between checks of gradients: only then a worker waits for its device.
_LOG_EVERY = 10
#: Seconds between two writes of the progress.
_PROGRESS_S = 0.2


@dataclass(frozen=True)
class WorkerTask:
    """The input of every worker."""

    config: Config
    rows: Rows
    run_id: str
    run_directory: RunDirectory
    #: The first worker makes its tracker with it.
    tracker: TrackerFactory


def train_worker(inputs: dict[str, WorkerTask]) -> None:
    """Train ``inputs["task"]`` until the last step, a requested stop, or a gradient that is not finite."""
    quiet_libraries()
    job = inputs["task"]
    config = job.config
    training = config.training
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    torch.set_num_threads(training.cpus_per_worker)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TensorFloat-32 for what autocast leaves in float32
    learner, start = Learner(config, device, UnconditionalInputs.read(job.run_directory.unconditional)), 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as directory:
            start = learner.load(Path(directory))
    interruptions = Interruptions(job.run_directory.stop, device)
    pin, encoders = device.type == "cuda", ReferenceEncoders.of(config, learner.absent.vision)
    batches = draw_batches(job.rows, start, training.steps, rank, world, training.ingest_gb, pin, encoders)
    unchecked = RecentSteps()
    with _reporting(job, learner, rank) as reporter:
        for step in range(start, training.steps):
            began = time.monotonic()
            micro_batches = next(batches)
            waited = time.monotonic() - began
            result = learner.train_step(step, micro_batches)
            done = step + 1
            unchecked.add(step, result, {lane: rows[PLACE] for lane, rows in micro_batches})
            interruption = interruptions.poll()
            saves = done % training.checkpoint_every == 0 or done == training.steps
            saves = saves or interruption is not Interruption.NONE
            if saves or reporter.is_due(done):
                failed = unchecked.check()
                if failed is not None:
                    _record_not_finite(job, rank, failed)
                    return
            reporter.step(done, result, sum(len(b["time_ids"]) for _, b in micro_batches), began, waited)
            if saves:
                reporter.checkpoint(done, result.loss)
            if interruption is Interruption.STOP:
                return


def _record_not_finite(job: WorkerTask, rank: int, failed: FinishedStep) -> None:
    """Record the rows of this worker in a step whose gradient was not finite."""
    bucket = bucket_at(job.rows.counts, job.rows.seed, failed.step)
    lanes = [
        {"lane": lane, "loss": str(float(failed.result.losses[lane])), "ids": row_ids(job.rows, bucket, rows.tolist())}
        for lane, rows in failed.rows.items()
    ]
    job.run_directory.not_finite.mkdir(parents=True, exist_ok=True)
    file = job.run_directory.not_finite / f"step_{failed.step:06d}.rank_{rank}.json"
    write_whole(file, json.dumps({"step": failed.step, "bucket": bucket, "lanes": lanes}, indent=1))


@contextmanager
def _reporting(job: WorkerTask, learner: Learner, rank: int):  # type: ignore[no-untyped-def]
    """The reporter of this worker; undelivered entries remain in the journal."""
    if rank != 0:
        yield _Reporter(job, learner, None)
        return
    tracker = job.tracker()
    journal = Journal(job.run_directory.journal, deliver_to(tracker, job.run_id))
    try:
        with tracker.system_metrics(job.run_id):
            yield _Reporter(job, learner, journal)
    finally:
        journal.close()


class _Reporter:
    """Metrics, sample grids and checkpoints. All workers must call; the first one, with the journal, writes."""

    def __init__(self, job: WorkerTask, learner: Learner, journal: Journal | None) -> None:
        self._job, self._learner, self._journal = job, learner, journal
        self._training = job.config.training
        self._reported = 0
        #: Read for the first grid.
        self._cases: list[SampleCase] | None = None
        self._written = float("-inf")
        #: The last loss that was read from the device.
        self._loss: float | None = None
        self._seconds = self._waited = self._rows = 0.0

    def step(self, done: int, result: StepResult, rows: int, began: float, waited: float) -> None:
        """Report a step: progress, and periodically metrics of all workers and samples."""
        self._seconds, self._waited = self._seconds + time.monotonic() - began, self._waited + waited
        self._rows += rows
        last = done == self._training.steps
        if self._loss is None or self._learner.device.type == "cpu" or self.is_due(done):
            self._loss = result.loss
        if self._journal is not None and (last or time.monotonic() - self._written > _PROGRESS_S):
            self._job.run_directory.write_progress(done, self._training.steps, self._loss)
            self._written = time.monotonic()
        if last or done % _LOG_EVERY == 0:
            self._log(done, result)
        if self._samples(done):
            self._sample(done)

    def is_due(self, done: int) -> bool:
        """Whether `step` reads results from the device; the same on every worker."""
        return done == self._training.steps or done % _LOG_EVERY == 0 or self._samples(done)

    def _samples(self, done: int) -> bool:
        every = self._training.sample_every
        return bool(every) and (done == self._training.steps or done % every == 0)

    def checkpoint(self, done: int, loss: float) -> None:
        """Validate, and save in the background, unless the state of ``done`` is saved."""
        if done == self._reported:
            return
        self._reported, learner = done, self._learner
        validation = validation_loss(learner, self._training.dataset) if self._training.validation_rows else None
        metrics = {"step": done, "loss": loss} | ({} if validation is None else {"validation_loss": validation})
        if validation is not None:
            if self._journal is not None:
                self._journal.metrics(done, {"validation_loss": validation})
            self._update_best(done, validation)
        if self._journal is None and not learner.shared.sharded:
            ray.train.report(metrics)
            return
        directory = Path(tempfile.mkdtemp())  # Ray Train removes it once it is stored, beside the other workers' files
        learner.save(directory, done, write=True)
        ray.train.report(
            metrics,
            checkpoint=Checkpoint.from_directory(directory),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        )

    def _log(self, done: int, result: StepResult) -> None:
        progress = (done - 1) / self._training.steps
        mine = [
            result.loss,
            self._rows / self._seconds,
            self._waited / self._seconds,
            _memory_gib(self._learner.device),
        ]
        ranks = self._learner.shared.gather(mine, self._learner.device)
        self._seconds = self._waited = self._rows = 0.0
        if self._journal is None:
            return
        losses, rates, waits, memory = zip(*ranks, strict=True)
        values = {
            "loss": sum(losses) / len(losses),
            "gradient_norm": float(result.gradient_norm),
            "learning_rate": result.learning_rate,
            "multi_view_share": multi_view_share(progress, self._training.curriculum),
            "samples_per_second": sum(rates),
            "data_wait_share": max(waits),
            "workers": len(ranks),
        }
        for rank, (rate, gib) in enumerate(zip(rates, memory, strict=True)):
            values |= {f"rank_{rank}.samples_per_second": rate, f"rank_{rank}.memory_gib": gib}
        self._journal.metrics(done, values)

    def _sample(self, done: int) -> None:
        averaged = self._learner.shared.whole_average(keep=self._journal is not None)
        if self._journal is None or averaged is None:
            return
        if self._cases is None:
            self._cases = sample_cases(self._job.config, self._learner.load_vision)
        self._job.run_directory.samples.mkdir(exist_ok=True)
        file = self._job.run_directory.samples / f"step_{done:06d}.png"
        with self._learner.shared.borrowed_unet() as unet:
            grid = sample_grid(self._job.config, unet, averaged, self._cases, self._learner.absent.vision)
        if grid is not None:
            grid.save(file)
            self._journal.artifact(done, file, "samples")

    def _update_best(self, done: int, loss: float) -> None:
        """Keep the averaged adapter if its ``loss`` is the least; the first worker decides and writes."""
        best, shared = self._job.run_directory.best, self._learner.shared
        leads = self._journal is not None
        is_best = leads and (not best.exists() or loss < read_progress(best)["validation_loss"])
        if shared.sharded:
            is_best = bool(shared.gather([float(is_best)], self._learner.device)[0][0])
        if is_best and (leads or shared.sharded):
            save_module(best, "ema", shared.averaged, {"step": done, "validation_loss": loss}, write=leads)


def _memory_gib(device: torch.device) -> float:
    """Peak memory of this worker: on its GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
