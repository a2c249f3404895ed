"""Rows as Ray Data's processes draw them: a block at a time, all of its rows in flight."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import pyarrow as pa

from components.batch.row import BatchRow
from components.batch.row_results import RowResults
from components.config import Config
from components.data.blocks import done_block, failed_block
from components.data.finished_units import room_for
from components.data.source_files import SourceFiles
from components.errors import DataError, NotFoundError, RealCustomError, WordError
from components.progress import quiet_libraries
from components.provenance.manifests import picture_writer
from components.provenance.pictures import Marks, ModelName, Output, PictureWriter

logger = logging.getLogger(__name__)

#: A process that dies takes its rows with it. Those begun so often are drawn one by one; and then given up.
_SUSPECT, _GIVEN_UP = 2, 3
_ROW, _MARK = "row", "mark"


class PipelineSource(Protocol):
    """Where pipelines come from, and what their URI names (`components.registry.versions`)."""

    def resolve(self, config: Config, uri: str) -> Any: ...

    def load_pipeline(self, config: Config, uri: str) -> Any: ...


def registry_at(path: str) -> PipelineSource:
    """The registry in the module ``path``."""
    return cast(PipelineSource, importlib.import_module(path))


@dataclass(frozen=True)
class Task:
    """A row to draw; ``mark`` names everything that its picture depends on."""

    row: BatchRow
    mark: str


def task_block(tasks: Sequence[Task]) -> pa.Table:
    """Tasks as a block of a dataset."""
    return pa.table({_ROW: [t.row.model_dump_json() for t in tasks], _MARK: [t.mark for t in tasks]})


class DrawRows:
    """Draws the rows of blocks; the first one loads the model.

    Args:
        model: its name and version in the registry.
        registry: module with a `PipelineSource`.
        store: where the references are.
    """

    def __init__(
        self, config: Config, model: tuple[str, str], registry: str, store: SourceFiles, album: RowResults
    ) -> None:
        quiet_libraries()
        self._config, self._model, self._registry, self._store, self._album = config, model, registry, store, album

    def __call__(self, block: pa.Table) -> pa.Table:
        """Says how many rows are settled: drawn, or known why not."""
        rows = zip(block[_ROW].to_pylist(), block[_MARK].to_pylist(), strict=True)
        tasks = [Task(BatchRow.model_validate(json.loads(text)), mark) for text, mark in rows]
        try:
            with room_for(self._album.root, "--output"):
                self._settle(tasks)
        except RealCustomError as error:
            return failed_block(error)
        return done_block(len(tasks))

    def _settle(self, tasks: Sequence[Task]) -> None:
        """Draw what a process before this one has not."""
        missing = [task for task in tasks if not self._settled(task)]
        if not missing:
            return
        _ = self._writer, self._studio  # a key or a model that cannot be loaded is the fault of no row
        begun = {task.row.id: self._album.begun(task.row.id) for task in missing}
        together = [task for task in missing if begun[task.row.id] < _SUSPECT]
        with ThreadPoolExecutor(max(1, len(together)), thread_name_prefix="row") as threads:
            list(threads.map(self._draw, together))
        for task in missing:
            if begun[task.row.id] >= _GIVEN_UP:
                self._album.fail(task.row.id, f"the process that drew it died {_GIVEN_UP} times")
            elif begun[task.row.id] >= _SUSPECT:
                self._draw(task)

    def _settled(self, task: Task) -> bool:
        return self._album.reason(task.row.id) is not None or self._album.has(task.row.id, task.mark)

    def _draw(self, task: Task) -> None:
        """One row to its end. What is wrong with it is its own; it stops nobody."""
        row = task.row
        self._album.begin(row.id)
        try:
            file = self._picture(task)
        except (DataError, NotFoundError, WordError) as error:
            self._album.fail(row.id, str(error))
            return
        except RealCustomError:
            raise
        except Exception as error:
            logger.exception("row %s failed", row.id)
            self._album.fail(row.id, f"internal error ({type(error).__name__})")
            return
        self._album.save(row.id, file)

    def _picture(self, task: Task) -> bytes:
        row, drawn = task.row, self._studio.draw(task.row)
        marks = Marks(row.seed, tuple(drawn.words), row.steps, row.guidance_scale, None, drawn.prompt)
        more = {"mark": task.mark, "size": row.size, "seconds": drawn.seconds}
        return self._writer(drawn.picture, Output(), marks, **more)

    @cached_property
    def _writer(self) -> PictureWriter:
        # The prompt is theirs who have the table, and what the row is known by.
        return picture_writer(self._config.serving, ModelName(*self._model), with_prompt=True)

    @cached_property
    def _studio(self) -> Any:
        # Imported here: whoever only plans needs none of the model libraries.
        import torch

        from components.batch.renderer import Renderer

        torch.set_num_threads(self._config.serving.generator_threads)
        name, version = self._model
        pipeline = registry_at(self._registry).load_pipeline(self._config, f"models:/{name}/{version}")
        return Renderer(self._config, pipeline, self._store)
