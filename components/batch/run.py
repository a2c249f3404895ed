"""`generate_table`: generates the images of a table of prompts; every row gets an image or the reason of its failure.

table -> rows -> rows without a result -> a pool of processes -> results.parquet
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

from components.batch.prompt_table import PromptTable, read_table
from components.batch.ray_stage import RenderRows, Task, registry_at, task_block
from components.batch.row_results import RowResults, result_row
from components.cluster import connect
from components.config import Config, for_workers
from components.data.finished_units import atomic_write
from components.errors import DataError
from components.fingerprint import fingerprint
from components.full_disk import report_full_disk
from components.ray_pool import run_ray_pool

logger = logging.getLogger(__name__)

RESULTS = "results.parquet"
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "status", "reason", "picture", "model", "model_version", "prompt")]
    + [("target_words", pa.list_(pa.string())), ("seed", pa.int64()), ("size", pa.string()), ("steps", pa.int32())]
    + [("guidance_scale", pa.float64()), ("seconds", pa.float64()), ("mark", pa.string())]
)


@dataclass(frozen=True)
class TableReport:
    """The outcome of a table: ``rows`` = ``done`` + ``failed``; this run generated ``generated`` of the done ones."""

    results: Path
    rows: int
    done: int
    failed: int
    generated: int


def generate_table(
    config: Config, place: str | Path, output: Path, registry: str = "components.registry.versions"
) -> TableReport:
    """Generate every row of the table at ``place`` into ``output`` with the registered model.

    A row that fails is listed with its reason and does not stop the run; the next run tries it again. Images of the
    same row, references and model are reused.

    Args:
        registry: module that loads the model, see `components.batch.ray_stage.PipelineSource`.

    Raises:
        DataError: the table cannot be read, no space is left, or another run writes to ``output``.
        RegistryError: the model is not in the registry.
    """
    table = read_table(place, config.sampling)
    found = registry_at(registry).resolve(config, f"models:/{config.registry.model}@{config.registry.alias}")
    model = (found.name, found.version)
    tasks = _tasks(config, table, model)
    results = RowResults(output.absolute())
    with report_full_disk(results.root, "--output"):
        results.root.mkdir(parents=True, exist_ok=True)
        with _lock(results.root):
            results.make()
            missing = [task for task in tasks if not results.has(task.row.id, task.mark)]
            if len(missing) < len(table.order):
                logger.info("generate: %d of %d rows", len(missing), len(table.order))
            _generate(config, missing, results, (model, registry, table.store))
            rows = _results(table, {task.row.id: task.mark for task in tasks}, results)
            _write(rows, results.root / RESULTS)
    done = sum(row["status"] == "done" for row in rows)
    attempted = {task.row.id for task in missing}
    generated = sum(row["status"] == "done" and row["id"] in attempted for row in rows)
    return TableReport(output / RESULTS, len(rows), done, len(rows) - done, generated)


def _tasks(config: Config, table: PromptTable, model: tuple[str, str]) -> list[Task]:
    """The rows with their marks; references are hashed, not decoded."""
    content = table.store.marks({reference for row in table.rows for reference in row.references})
    settings = [model, config.model.model_dump(), config.vision.model_dump(), config.sampling.guidance.model_dump()]
    return [
        Task(row, fingerprint([settings, row.model_dump(), [content[reference] for reference in row.references]]))
        for row in table.rows
    ]


def _generate(config: Config, tasks: Sequence[Task], results: RowResults, arguments: tuple[Any, ...]) -> None:
    """Generate ``tasks`` in a pool of processes with a pipeline each; a process that dies is restarted."""
    if not tasks:
        return
    batch, threads = config.batch, config.serving.generator_threads
    size = min(batch.rows, math.ceil(len(tasks) / batch.workers))
    blocks = [task_block(tasks[start : start + size]) for start in range(0, len(tasks), size)]
    workers = min(batch.workers, len(blocks))
    connect(workers * threads + 1)
    run_ray_pool(
        RenderRows,
        (for_workers(config), *arguments, results),
        blocks,
        workers,
        num_cpus=threads,
        num_gpus=config.serving.generator_gpus,
        description="generate",
    )


def _results(table: PromptTable, marks: dict[str, str], results: RowResults) -> list[dict[str, Any]]:
    """The result of every row, in the table's order."""
    rows = [(name, result_row(name, results, table.faults.get(name), marks.get(name))) for name in table.order]
    lost = [name for name, row in rows if row is None]
    if lost:
        raise RuntimeError(f"{len(lost)} rows have no result, for example {lost[0]}: this is a bug")
    return [row for _, row in rows if row is not None]


def _write(rows: list[dict[str, Any]], file: Path) -> None:
    with atomic_write(file) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)


def _lock(root: Path) -> AbstractContextManager[object]:
    """The lock of the run that writes to ``root``.

    Raises:
        DataError: another run holds it.
    """
    try:
        return FileLock(root / ".lock").acquire(timeout=0)
    except Timeout:
        raise DataError(f"--output {root}: another run writes there; wait for it, or use another folder") from None
