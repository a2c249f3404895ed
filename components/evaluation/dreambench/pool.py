"""Shots through a pool of Ray actors, in blocks of one batch each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data

from components.cluster import connect
from components.config import Config, for_workers
from components.data.blocks import done_block, failed_block, read_done
from components.errors import RealCustomError
from components.evaluation.dreambench.protocol import Shot
from components.progress import quiet_libraries, track

#: Does something with every shot of a batch, and skips those that it finds done.
Worker = Callable[[Sequence[Shot]], None]


def run_pool(
    config: Config, name: str, worker: Callable[..., Worker], arguments: tuple[Any, ...], shots: Sequence[Shot]
) -> None:
    """Hand ``shots`` to `evaluation.workers` processes that hold a ``worker(config, *arguments)`` each.

    Batches finish in no order. A process that dies is started again, and its batch with it.

    Raises:
        RealCustomError: what a worker raised; finished shots stay so.
    """
    if not shots:
        return
    size = config.evaluation.batch_size
    blocks = [pa.Table.from_pylist([s.row() for s in shots[i : i + size]]) for i in range(0, len(shots), size)]
    connect(config.evaluation.workers + 1)
    workers = min(config.evaluation.workers, len(blocks))
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    with ray.data.DataContext.current(context):
        done = ray.data.from_arrow(blocks).map_batches(
            _Member,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(worker, for_workers(config), arguments),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            num_cpus=1,
            num_gpus=_gpus(config),
        )
        finished = done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for _ in track((row for block in finished for row in range(read_done(block))), name, len(shots)):
            continue


class _Member:
    """A process of the pool."""

    def __init__(self, worker: Callable[..., Worker], config: Config, arguments: tuple[Any, ...]) -> None:
        quiet_libraries()
        self._work = worker(config, *arguments)

    def __call__(self, block: pa.Table) -> pa.Table:
        try:
            self._work([Shot(**row) for row in block.to_pylist()])
        except RealCustomError as error:
            return failed_block(error)
        return done_block(block.num_rows)


def _gpus(config: Config) -> int:
    """GPUs of one process."""
    return int(config.model.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1)
