"""The Ray Data stage that renders rows: a block at a time, all of its rows concurrently."""

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
from components.data.source_files import SourceFiles
from components.errors import DataError, NotFoundError, RealCustomError, WordError
from components.full_disk import report_full_disk
from components.progress import quiet_libraries
from components.provenance.image_files import GenerationParameters, ModelName, Output, PictureWriter
from components.provenance.manifests import picture_writer

logger = logging.getLogger(__name__)

#: A dying process interrupts all its rows. Rows that were started so often are rendered one by one, and then failed.
_SUSPECT, _GIVEN_UP = 2, 3
_ROW, _MARK = "row", "mark"


class PipelineSource(Protocol):
    """Resolves model URIs and loads pipelines (`components.registry.versions`)."""

    def resolve(self, config: Config, uri: str) -> Any: ...

    def load_pipeline(self, config: Config, uri: str) -> Any: ...


def registry_at(path: str) -> PipelineSource:
    """The registry in the module ``path``."""
    return cast(PipelineSource, importlib.import_module(path))


@dataclass(frozen=True)
class Task:
    """A row to render; ``mark`` is the fingerprint of everything that its image depends on."""

    row: BatchRow
    mark: str


def task_block(tasks: Sequence[Task]) -> pa.Table:
    """Tasks as a block of a dataset."""
    return pa.table({_ROW: [t.row.model_dump_json() for t in tasks], _MARK: [t.mark for t in tasks]})


class RenderRows:
    """Renders the rows of blocks; the first block loads the model.

    Args:
        model: its name and version in the registry.
        registry: module with a `PipelineSource`.
        store: where the references are.
    """

    def __init__(
        self, config: Config, model: tuple[str, str], registry: str, store: SourceFiles, results: RowResults
    ) -> None:
        quiet_libraries()
        self._config, self._model, self._registry, self._store, self._results = config, model, registry, store, results

    def __call__(self, block: pa.Table) -> pa.Table:
        """Render a block's rows; returns the number of finished rows, failed ones included."""
        rows = zip(block[_ROW].to_pylist(), block[_MARK].to_pylist(), strict=True)
        tasks = [Task(BatchRow.model_validate(json.loads(text)), mark) for text, mark in rows]
        try:
            with report_full_disk(self._results.root, "--output"):
                self._render_missing(tasks)
        except RealCustomError as error:
            return failed_block(error)
        return done_block(len(tasks))

    def _render_missing(self, tasks: Sequence[Task]) -> None:
        """Render the rows that have no result yet."""
        missing = [task for task in tasks if not self._finished(task)]
        if not missing:
            return
        _ = self._writer, self._renderer  # an error in loading them is not the error of a row
        begun = {task.row.id: self._results.begun(task.row.id) for task in missing}
        together = [task for task in missing if begun[task.row.id] < _SUSPECT]
        with ThreadPoolExecutor(max(1, len(together)), thread_name_prefix="row") as threads:
            list(threads.map(self._render_row, together))
        for task in missing:
            if begun[task.row.id] >= _GIVEN_UP:
                self._results.fail(task.row.id, f"the process that rendered it died {_GIVEN_UP} times")
            elif begun[task.row.id] >= _SUSPECT:
                self._render_row(task)

    def _finished(self, task: Task) -> bool:
        return self._results.reason(task.row.id) is not None or self._results.has(task.row.id, task.mark)

    def _render_row(self, task: Task) -> None:
        """Render one row and store its result; an error of the row does not affect others."""
        row = task.row
        self._results.begin(row.id)
        try:
            file = self._picture(task)
        except (DataError, NotFoundError, WordError) as error:
            self._results.fail(row.id, str(error))
            return
        except RealCustomError:
            raise
        except Exception as error:
            logger.exception("row %s failed", row.id)
            self._results.fail(row.id, f"internal error ({type(error).__name__})")
            return
        self._results.save(row.id, file)

    def _picture(self, task: Task) -> bytes:
        row, rendered = task.row, self._renderer.render(task.row)
        parameters = GenerationParameters(
            row.seed, tuple(rendered.words), row.steps, row.guidance_scale, None, rendered.prompt
        )
        more = {"mark": task.mark, "size": row.size, "seconds": rendered.seconds}
        return self._writer(rendered.picture, Output(), parameters, **more)

    @cached_property
    def _writer(self) -> PictureWriter:
        # The owner of the table has the prompt, so it is always stored in the file.
        return picture_writer(self._config.serving, ModelName(*self._model), with_prompt=True)

    @cached_property
    def _renderer(self) -> Any:
        # Imported here: the driver needs none of the model libraries.
        import torch

        from components.batch.renderer import Renderer

        torch.set_num_threads(self._config.serving.generator_threads)
        name, version = self._model
        pipeline = registry_at(self._registry).load_pipeline(self._config, f"models:/{name}/{version}")
        return Renderer(self._config, pipeline, self._store)
