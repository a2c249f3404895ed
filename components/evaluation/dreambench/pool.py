"""Processing of specs in a pool of Ray actors, in blocks of one batch each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from components.cluster import connect, gpus_of_a_process
from components.config import Config, for_workers
from components.data.blocks import done_block, failed_block
from components.errors import RealCustomError
from components.evaluation.dreambench.protocol import ImageSpec
from components.progress import quiet_libraries
from components.ray_pool import run_ray_pool

#: Processes the specs of a batch, and skips finished ones.
Worker = Callable[[Sequence[ImageSpec]], None]


def run_pool(
    config: Config, name: str, worker: Callable[..., Worker], arguments: tuple[Any, ...], specs: Sequence[ImageSpec]
) -> None:
    """Process ``specs`` in `evaluation.workers` processes, each with its own ``worker(config, *arguments)``.

    Batches finish in any order. A process that dies is restarted, and its batch is repeated.

    Raises:
        RealCustomError: the error of a worker; finished specs are kept.
    """
    if not specs:
        return
    size = config.evaluation.batch_size
    blocks = [pa.Table.from_pylist([s.row() for s in specs[i : i + size]]) for i in range(0, len(specs), size)]
    connect(config.evaluation.workers + 1)
    workers = min(config.evaluation.workers, len(blocks))
    gpus = gpus_of_a_process(config.model.device)
    run_ray_pool(_PoolWorker, (worker, for_workers(config), arguments), blocks, workers, 1, gpus, name)


class _PoolWorker:
    """A process of the pool."""

    def __init__(self, worker: Callable[..., Worker], config: Config, arguments: tuple[Any, ...]) -> None:
        quiet_libraries()
        self._work = worker(config, *arguments)

    def __call__(self, block: pa.Table) -> pa.Table:
        try:
            self._work([ImageSpec(**row) for row in block.to_pylist()])
        except RealCustomError as error:
            return failed_block(error)
        return done_block(block.num_rows)
