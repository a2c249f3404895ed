"""Blocks of work through a pool of Ray actors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray.data

from components.data.blocks import read_done
from components.progress import track


def run_ray_pool(
    member: type,
    arguments: tuple[Any, ...],
    blocks: Sequence[pa.Table],
    workers: int,
    num_cpus: int,
    num_gpus: float,
    description: str,
) -> None:
    """Process ``blocks`` in ``workers`` processes, each with its own ``member(*arguments)``, and show progress.

    Blocks finish in any order. A process that dies is restarted, and its block is repeated.

    Args:
        member: turns a block into what `components.data.blocks.read_done` reads.
        num_cpus, num_gpus: of one process.

    Raises:
        RealCustomError: the error of a member, passed on by `components.data.blocks.failed_block`.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    with ray.data.DataContext.current(context):
        done = ray.data.from_arrow(list(blocks)).map_batches(
            member,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            num_cpus=num_cpus,
            num_gpus=num_gpus,
        )
        finished = done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        rows = sum(block.num_rows for block in blocks)
        for _ in track((row for block in finished for row in range(read_done(block))), description, rows):
            continue
