"""Training batches of prepared rows, read by Ray Data in the order of `components.training.row_order`.

Every worker reads the rows of its lanes with one lazy Ray Data pipeline of its own, over all buckets: one task for each
part of a window of steps. Parts are in the order in which training first needs them, so that what waits in the worker
is at most a part of each bucket. Ray Train's own dataset sharding is not used, as it depends on the number of workers.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch

from components.config import TrainingConfig
from components.training.bucket_order import bucket_at, positions
from components.training.dataset_rows import Batch, RowBytes, Rows, find_rows
from components.training.reference_stage import ReferenceEncoders
from components.training.row_order import Window
from components.training.window_reader import read_windows, window_work

#: Read-ahead tasks of a worker. They reserve no CPU: a task that waits for its consumer would otherwise block the
#: reading of another worker, and thereby all workers.
_READERS = 2
#: Bytes of the object store that a pipeline may use in any case.
_LEAST_STORE = 2**28
#: Maximum number of parts of a pipeline; another one follows when it has ended. Each is a block, since Ray would join
#: rows of several buckets, whose shapes differ.
_MAX_BLOCKS = 1000


@dataclass(frozen=True)
class Part:
    """Steps ``first`` to ``last`` (exclusive) of the window ``start`` to ``stop``, all counted within ``bucket``.

    ``steps`` are their numbers among all buckets.
    """

    bucket: str
    start: int
    stop: int
    first: int
    last: int
    steps: tuple[int, ...]


def draw_batches(
    rows: Rows,
    start: int,
    stop: int,
    rank: int = 0,
    world: int = 1,
    ingest_gb: float = TrainingConfig().ingest_gb,
    pin: bool = False,
    encoders: ReferenceEncoders | None = None,
) -> Iterator[list[tuple[int, Batch]]]:
    """For each step from ``start`` to ``stop``: the lanes of this worker with their micro-batches.

    Args:
        rows: the training rows.
        rank: of this worker among ``world``; it has every ``world``-th lane.
        ingest_gb: memory that rows may take on their way: half in this worker, half in the object store.
        pin: pin the memory of the batches, so that they are copied to a GPU beside its computation.
        encoders: encode references of pixels on the way.
    """
    if start >= stop:
        return
    lanes = tuple(range(rank, rows.lanes, world))
    parts = parts_in_order(rows, start, stop, part_steps(rows, len(lanes), ingest_gb, encoders))
    read = partial(_read_blocks, rows, lanes=lanes, ingest_gb=ingest_gb, pin=pin, encoders=encoders)
    stream = _micro_batches(parts, read, len(lanes), rows.batch)
    waiting: dict[str, deque[Batch]] = {name: deque() for name in rows.orders}
    for step in range(start, stop):
        bucket = bucket_at(rows.counts, rows.seed, step)
        while len(waiting[bucket]) < len(lanes):
            owner, batch = next(stream)
            waiting[owner].append(batch)
        yield [(lane, waiting[bucket].popleft()) for lane in lanes]


def read_batches(directory: Path, training: TrainingConfig) -> Iterator[Batch]:
    """The micro-batches of a prepared dataset outside of Ray Train, as for a single worker.

    Raises:
        DataError: ``directory`` is no prepared dataset.
    """
    for step in draw_batches(find_rows(directory, training), 0, training.steps, ingest_gb=training.ingest_gb):
        yield from (batch for _, batch in step)


def read_window(rows: Rows, step: int, lanes: Sequence[int]) -> list[tuple[int, Batch]]:
    """The micro-batches of ``lanes`` in one step, read without Ray."""
    (part,) = parts_in_order(rows, step, step + 1, 1)
    given = read_windows({name: np.array([value]) for name, value in _work(rows, part, lanes).items()})
    return [
        (lane, {name: torch.from_numpy(values) for name, values in columns.items()})
        for lane, columns in zip(lanes, given, strict=True)
    ]


def part_steps(rows: Rows, lanes: int, ingest_gb: float, encoders: ReferenceEncoders | None = None) -> int:
    """Steps of a part, so that the rows on their way to a worker with so many ``lanes`` take about ``ingest_gb``.

    Half of it is for what waits in the worker, a part of each bucket, with the features of ``encoders``; half for the
    reading: for each task a part that is being read and one that is done. Parts that are shorter than the windows in
    which rows are shuffled read row groups several times.
    """
    half = ingest_gb * 1e9 / 2 / (rows.batch * lanes)
    read = max(sizes.total for sizes in rows.row_bytes.values())
    waiting = sum(waiting_bytes(sizes, encoders) for sizes in rows.row_bytes.values())
    return max(1, int(min(half / waiting, half / (2 * _READERS * read))))


def waiting_bytes(sizes: RowBytes, encoders: ReferenceEncoders | None) -> int:
    """Bytes of a row that waits in the worker, where ``encoders`` have replaced its cut-outs by features."""
    if encoders is None or not sizes.cutouts:
        return sizes.total
    return sizes.total - sizes.cutouts + encoders.feature_bytes


def parts_in_order(rows: Rows, start: int, stop: int, longest: int) -> list[Part]:
    """The parts of at most ``longest`` steps that training reads from ``start`` to ``stop``, as it first needs them."""
    places, ends = (positions(rows.counts, rows.seed, step) for step in (start, stop))
    read_until = dict(places)
    parts: list[tuple[str, int, int, int, int, list[int]]] = []
    steps: dict[str, list[int]] = {}
    for step in range(start, stop):
        bucket = bucket_at(rows.counts, rows.seed, step)
        place = places[bucket]
        if place == read_until[bucket]:
            window = rows.orders[bucket].window(place)
            read_until[bucket] = min(window.stop, ends[bucket], place + longest)
            steps[bucket] = []  # filled by this step and later ones
            parts.append((bucket, window.start, window.stop, place, read_until[bucket], steps[bucket]))
        steps[bucket].append(step)
        places[bucket] += 1
    return [Part(bucket, begin, end, first, last, tuple(numbers)) for bucket, begin, end, first, last, numbers in parts]


def _micro_batches(
    parts: Sequence[Part], read: Callable[[Sequence[Part]], Iterator[Batch]], lanes: int, size: int
) -> Iterator[tuple[str, Batch]]:
    """The micro-batches of ``size`` rows of ``parts`` in order, each with its bucket.

    Args:
        read: yields blocks of whole micro-batches of some parts.
    """
    for begin in range(0, len(parts), _MAX_BLOCKS):
        some = parts[begin : begin + _MAX_BLOCKS]
        owners = (part.bucket for part in some for _ in range((part.last - part.first) * lanes))
        for block in read(some):
            for first in range(0, len(block["time_ids"]), size):
                yield next(owners), {name: values[first : first + size] for name, values in block.items()}


def _work(rows: Rows, part: Part, lanes: Sequence[int]) -> dict[str, Any]:
    """What a task is told to read of ``part``."""
    window = Window(part.start, part.stop)
    return window_work(rows.buckets[part.bucket], window, part.first, part.last, part.steps, lanes)


def _read_blocks(
    rows: Rows,
    parts: Sequence[Part],
    lanes: tuple[int, ...],
    ingest_gb: float,
    pin: bool,
    encoders: ReferenceEncoders | None,
) -> Iterator[Batch]:
    """Several micro-batches of one part at a time, in order."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    options = context.execution_options
    options.preserve_order = True
    memory = max(ingest_gb * 1e9 / 2, _LEAST_STORE)
    options.resource_limits = ray.data.ExecutionResources.for_limits(object_store_memory=memory)
    with ray.data.DataContext.current(context):
        work = ray.data.from_items([_work(rows, part, lanes) for part in parts], override_num_blocks=len(parts))
        dataset = work.map_batches(read_windows, batch_size=1, num_cpus=0, concurrency=_READERS)
        if encoders is not None:
            dataset = encoders.append_to(dataset)
        blocks = dataset.iter_torch_batches(batch_size=None, device="cpu", prefetch_batches=2, pin_memory=pin)
    yield from blocks
