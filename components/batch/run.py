"""`draw_table`: a table of prompts in, a picture or a reason for every row out; nothing lost, nothing drawn twice.

table -> rows -> those that are missing -> a pool of processes -> results.parquet
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from components.batch.prompt_table import Table, read_table
from components.batch.ray_stage import DrawRows, Task, registry_at, task_block
from components.batch.row_results import RowResults, result_row
from components.cluster import connect
from components.config import Config, for_workers
from components.data.finished_units import appearing, room_for
from components.errors import DataError
from components.fingerprint import fingerprint
from components.ray_pool import run_ray_pool

logger = logging.getLogger(__name__)

RESULTS = "results.parquet"
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "status", "reason", "picture", "model", "model_version", "prompt")]
    + [("target_words", pa.list_(pa.string())), ("seed", pa.int64()), ("size", pa.string()), ("steps", pa.int32())]
    + [("guidance_scale", pa.float64()), ("seconds", pa.float64()), ("mark", pa.string())]
)


@dataclass(frozen=True)
class Report:
    """What has become of a table: ``rows`` = ``done`` + ``failed``. ``drawn`` of the done ones were drawn now."""

    results: Path
    rows: int
    done: int
    failed: int
    drawn: int


def draw_table(
    config: Config, place: str | Path, output: Path, registry: str = "components.registry.versions"
) -> Report:
    """Draw every row of the table at ``place`` into ``output`` with the registered model.

    A row that cannot be drawn is listed with its reason and stops nothing; the next run tries it again. A picture that
    was drawn from the same row, references and model is not drawn again.

    Args:
        registry: module where the model is found, see `components.batch.ray_stage.PipelineSource`.

    Raises:
        DataError: the table cannot be read, no space is left, or another run writes to ``output``.
        RegistryError: the model is not in the registry.
    """
    table = read_table(place, config.sampling)
    found = registry_at(registry).resolve(config, f"models:/{config.registry.model}@{config.registry.alias}")
    model = (found.name, found.version)
    tasks = _tasks(config, table, model)
    album = RowResults(output.absolute())
    with room_for(album.root, "--output"):
        album.root.mkdir(parents=True, exist_ok=True)
        with _alone(album.root):
            album.make()
            missing = [task for task in tasks if not album.has(task.row.id, task.mark)]
            if len(missing) < len(table.order):
                logger.info("generate: %d of %d rows are to be drawn", len(missing), len(table.order))
            _draw(config, missing, album, (model, registry, table.store))
            rows = _results(table, {task.row.id: task.mark for task in tasks}, album)
            _write(rows, album.root / RESULTS)
    done = sum(row["status"] == "done" for row in rows)
    redrawn = {task.row.id for task in missing}
    drawn = sum(row["status"] == "done" and row["id"] in redrawn for row in rows)
    return Report(output / RESULTS, len(rows), done, len(rows) - done, drawn)


def _tasks(config: Config, table: Table, model: tuple[str, str]) -> list[Task]:
    """The rows with marks of all that their pictures depend on; references are hashed, not decoded."""
    content = table.store.marks({reference for row in table.rows for reference in row.references})
    drawn_by = [model, config.model.model_dump(), config.vision.model_dump(), config.sampling.guidance.model_dump()]
    return [
        Task(row, fingerprint([drawn_by, row.model_dump(), [content[reference] for reference in row.references]]))
        for row in table.rows
    ]


def _draw(config: Config, tasks: Sequence[Task], album: RowResults, arguments: tuple[Any, ...]) -> None:
    """Hand ``tasks`` to processes that hold a pipeline each. One that dies is started again, and its rows with it."""
    if not tasks:
        return
    batch, threads = config.batch, config.serving.generator_threads
    size = min(batch.rows, math.ceil(len(tasks) / batch.workers))
    blocks = [task_block(tasks[start : start + size]) for start in range(0, len(tasks), size)]
    workers = min(batch.workers, len(blocks))
    connect(workers * threads + 1)
    run_ray_pool(
        DrawRows,
        (for_workers(config), *arguments, album),
        blocks,
        workers,
        num_cpus=threads,
        num_gpus=config.serving.generator_gpus,
        description="generate",
    )


def _results(table: Table, marks: dict[str, str], album: RowResults) -> list[dict[str, Any]]:
    """A row for every row of the table, in its order, if the books balance."""
    rows = [(name, result_row(name, album, table.faults.get(name), marks.get(name))) for name in table.order]
    lost = [name for name, row in rows if row is None]
    if lost:
        raise RuntimeError(f"nothing has become of {len(lost)} rows, such as {lost[0]}: this is a fault of the program")
    return [row for _, row in rows if row is not None]


def _write(rows: list[dict[str, Any]], file: Path) -> None:
    with appearing(file) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)


def _alone(root: Path) -> AbstractContextManager[object]:
    """A lock that is held by the one run that writes to ``root``.

    Raises:
        DataError: another holds it.
    """
    try:
        return FileLock(root / ".lock").acquire(timeout=0)
    except Timeout:
        raise DataError(f"--output {root}: another run writes there; wait for it, or take another folder") from None
