"""Training batches of prepared rows, read by Ray Data in the order of `components.training.row_order`.

Every worker reads the rows of its lanes with its own lazy Ray Data pipeline: one task for each window of steps, whose
rows are in training order. Ray Train's own dataset sharding is not used, as it depends on the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import ray.data
import torch
from ray.data import Dataset

from components.config import TrainingConfig
from components.training.bucket_order import bucket_at, positions
from components.training.dataset_rows import Batch, Rows, find_rows
from components.training.window_reader import read_windows

#: Read-ahead tasks for each worker and bucket. They reserve no CPU: a task that waits for its consumer would otherwise
#: block the reading of another worker, and thereby all workers.
_READERS = 2
#: Maximum number of blocks of a pipeline.
_MAX_BLOCKS = 1000


def draw_batches(
    rows: Rows, start: int, stop: int, rank: int = 0, world: int = 1, pin: bool = False
) -> Iterator[list[tuple[int, Batch]]]:
    """For each step from ``start`` to ``stop``: the lanes of this worker with their micro-batches.

    Args:
        rows: the training rows.
        rank: of this worker among ``world``; it has every ``world``-th lane.
        pin: pin the memory of the batches, so that they are copied to a GPU beside its computation.
    """
    lanes = tuple(range(rank, rows.lanes, world))
    before, after = (positions(rows.counts, rows.seed, step) for step in (start, stop))
    batch = next(iter(rows.orders.values())).batch
    streams = {
        name: iter(
            _pipeline(rows, name, lanes, before[name], after[name]).iter_torch_batches(
                batch_size=batch, device="cpu", prefetch_batches=2, pin_memory=pin
            )
        )
        for name in rows.orders
        if after[name] > before[name]
    }
    for step in range(start, stop):
        stream = streams[bucket_at(rows.counts, rows.seed, step)]
        yield [(lane, next(stream)) for lane in lanes]


def read_batches(directory: Path, training: TrainingConfig) -> Iterator[Batch]:
    """The micro-batches of a prepared dataset outside of Ray Train, as for a single worker.

    Raises:
        DataError: ``directory`` is no prepared dataset.
    """
    for step in draw_batches(find_rows(directory, training), 0, training.steps):
        yield from (batch for _, batch in step)


def read_window(rows: Rows, step: int, lanes: Sequence[int]) -> list[tuple[int, Batch]]:
    """The micro-batches of ``lanes`` in one step, read without Ray."""
    bucket = bucket_at(rows.counts, rows.seed, step)
    place = positions(rows.counts, rows.seed, step)[bucket]
    order = rows.orders[bucket]
    window = order.window(place)
    work = {"start": window.start, "stop": window.stop, "first": place, "last": place + 1}
    given = read_windows({k: np.array([v]) for k, v in work.items()}, rows.pieces[bucket], order, tuple(lanes))
    return [
        (lane, {name: torch.from_numpy(values) for name, values in columns.items()})
        for lane, columns in zip(lanes, given, strict=True)
    ]


def _pipeline(rows: Rows, bucket: str, lanes: tuple[int, ...], start: int, stop: int) -> Dataset:
    """The rows of ``lanes`` from the bucket's step ``start`` to its step ``stop``, lazily, in order."""
    order, work, step = rows.orders[bucket], [], start
    while step < stop:
        window = order.window(step)
        work.append({"start": window.start, "stop": window.stop, "first": step, "last": min(window.stop, stop)})
        step = window.stop
    blocks = min(len(work), _MAX_BLOCKS)
    dataset = ray.data.from_items(work, override_num_blocks=blocks).map_batches(
        read_windows, batch_size=1, fn_args=(rows.pieces[bucket], order, lanes), num_cpus=0, concurrency=_READERS
    )
    dataset.context.execution_options.preserve_order = True
    return dataset
