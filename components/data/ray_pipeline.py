"""Curation and encoding of units as one lazy Ray Data pipeline: pictures are read while others are encoded.

units -> curate (tasks) -> encode and write (actors) -> how many rows are done
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
import ray.data

from components.cluster import connect
from components.config import Config, for_workers
from components.data.blocks import read_done, unit_row
from components.data.finished_units import FinishedUnits
from components.data.ray_stages import EncodeUnits, curate_units
from components.data.source_files import SourceFiles
from components.data.subject_image import CurateSettings
from components.data.units import Unit
from components.progress import track

#: Units that a process reads before another one takes its place, and with it what libraries left behind. Since the
#: encoders have no such limit, Ray does not fuse the two stages: it would run them in one process, in turns.
_CALLS = 64


def run_units(config: Config, store: SourceFiles, units: Sequence[Unit], parts: FinishedUnits) -> None:
    """Curate, encode and write ``units``, each as a whole, in no order. A process or node that dies costs time only.

    Raises:
        RealCustomError: a model or an extra is missing, or no space is left; units that are finished stay so.
    """
    if not units:
        return
    data = config.data
    connect(data.encoders + 1)
    workers = for_workers(config)
    rows, gpus = sum(len(unit.jobs) for unit in units), _gpus(config)
    with _context(data.in_flight_gb * data.encoders):
        dataset = (
            ray.data.from_items([unit_row(unit) for unit in units], override_num_blocks=len(units))
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
    """So many encoders as leave one core to the other stage, and as there are GPUs if each takes one."""
    cluster = ray.cluster_resources()
    most = [encoders, int(cluster.get("CPU", 1)) - 1, *([int(cluster["GPU"])] if gpus else [])]
    size = max(1, min(most))
    return ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size)


def _gpus(config: Config) -> int:
    """GPUs of one encoder."""
    return int(config.model.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1)


@contextmanager
def _context(in_flight_gb: float) -> Iterator[None]:
    """Progress is shown in rows, in Ray's stead; and curation, which may be the quicker, does not run far ahead."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    limits = ray.data.ExecutionResources.for_limits(object_store_memory=in_flight_gb * 2**30)
    context.execution_options.resource_limits = limits
    with ray.data.DataContext.current(context):
        yield
