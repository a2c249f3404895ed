"""Curation and encoding of units as a lazy Ray Data pipeline, in which both stages run concurrently.

units -> curate (tasks) -> encode and write (actors) -> numbers of finished rows
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
import ray.data

from components.cluster import connect, gpus_of_a_process
from components.config import Config, for_workers
from components.data.blocks import read_done
from components.data.finished_units import FinishedUnits
from components.data.ray_stages import KEY, EncodeUnits, curate_units
from components.data.source_files import SourceFiles
from components.data.subject_image import CurateSettings
from components.data.units import Unit
from components.model.text import TextPooling
from components.progress import track

#: Units after which a curating process is replaced, to release memory that libraries leak. As the encoders have no such
#: limit, Ray does not fuse the two stages into one process, where they would alternate.
_CALLS = 64


def run_units(
    config: Config, store: SourceFiles, units: Sequence[Unit], parts: FinishedUnits, pooling: TextPooling, encoding: str
) -> None:
    """Curate, encode and write ``units`` in any order. Units of a process or node that dies are repeated.

    Between processes only the names of units travel: their rows are in files beside those of ``parts``.

    Args:
        pooling: the pooled text vector.
        encoding: names the file of `FinishedUnits.unconditional`, which is written if it is missing.

    Raises:
        RealCustomError: a model or an extra is missing, or no space is left; finished units are kept.
    """
    if not units:
        return
    data = config.data
    for unit in units:
        parts.plan(unit)
    connect(data.encoders + 1)
    workers = for_workers(config)
    rows, gpus = sum(len(unit.jobs) for unit in units), gpus_of_a_process(config.model.device)
    with _context(data.in_flight_gb * data.encoders):
        dataset = (
            ray.data.from_items([{KEY: unit.key} for unit in units], override_num_blocks=len(units))
            .map_batches(
                curate_units,
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.TaskPoolStrategy(size=data.curators),
                fn_kwargs={"settings": CurateSettings.of(config, store), "parts": parts},
                max_calls=_CALLS,
            )
            .map_batches(
                EncodeUnits,
                batch_size=1,
                batch_format="pyarrow",
                zero_copy_batch=True,
                fn_constructor_args=(
                    parts,
                    workers.model,
                    workers.vision,
                    workers.naming,
                    data.batch_size,
                    data.encode,
                    pooling,
                    encoding,
                ),
                compute=_pool(min(data.encoders, len(units)), gpus),
                num_cpus=1,
                num_gpus=gpus,
            )
        )
        blocks = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for _ in track((row for block in blocks for row in range(read_done(block))), "prepare", rows):
            continue


def _pool(encoders: int, gpus: int) -> ray.data.ActorPoolStrategy:
    """At most ``encoders`` actors; there are more as soon as the cluster has grown.

    It begins with as many as there are GPUs now; on CPUs one core is left to the other stage.
    """
    cluster = ray.cluster_resources()
    now = int(cluster.get("GPU", 0)) if gpus else int(cluster.get("CPU", 1)) - 1
    return ray.data.ActorPoolStrategy(min_size=1, max_size=encoders, initial_size=max(1, min(encoders, now)))


@contextmanager
def _context(in_flight_gb: float) -> Iterator[None]:
    """Ray's progress bars are replaced by ours, and curation may not run far ahead of encoding."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    limits = ray.data.ExecutionResources.for_limits(object_store_memory=in_flight_gb * 2**30)
    context.execution_options.resource_limits = limits
    with ray.data.DataContext.current(context):
        yield
