"""A directory that `save_to_disk` of Hugging Face's `datasets` wrote: ``state.json`` and streams of Arrow batches."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from components.data.address import Cell
from components.data.cells import descend
from components.data.source_files import SourceFiles
from components.data.sources.columnar import Layout, lay_out, readable, records, rows_of, said_of
from components.data.sources.record import Columns, Record, only_folder, read_text
from components.errors import DataError


def read_datasets(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """The rows of one split; the schemas of all its files are checked first."""
    only_folder(store, file)
    files = _data_files(store)
    layouts, faults = {}, dict[str, str]()
    for name in files:
        store.path(name)  # raises for a name that leaves the source
        try:
            with readable(name, "an Arrow stream"), store.open_arrow(name) as stream:
                schema = pa.ipc.read_schema(stream)
        except DataError as error:
            faults[name] = said_of(error)
        else:
            layouts[name] = lay_out(name, schema, columns)
    for name in files:
        if name in faults:
            yield Record(name, None, fault=faults[name])
            continue
        try:
            with readable(name, "an Arrow stream"), store.open_arrow(name) as stream:
                yield from _records(name, stream, layouts[name])
        except DataError as error:  # the rest of the file
            yield Record(f"{name} (its rest)", None, fault=said_of(error))


def _data_files(store: SourceFiles) -> list[str]:
    if "dataset_dict.json" in (files := store.files()) and "state.json" not in files:
        splits = sorted({name.partition("/")[0] for name in files if name.endswith("/state.json")})
        raise DataError(f"data.source: {store.url} holds the splits {', '.join(splits)}; name one: {store.url}/…")
    try:
        state = json.loads(read_text(store, "state.json"))
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"data.source: {store.url}/state.json does not list the data files") from None
    if state.get("_indices_data_files"):
        raise DataError(f"data.source: {store.url} is a selection of its rows; save it again with flatten_indices()")
    if wrong := next((name for name in names if "!" in name), None):
        raise DataError(f"data.source: {wrong}: a container's path must not hold '!'; rename it")
    return names


def _records(name: str, stream: pa.NativeFile, layout: Layout) -> Iterator[Record]:
    schema = pa.ipc.read_schema(stream)
    first = 0
    while True:
        start = stream.tell()
        try:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(stream), schema)
        except EOFError:  # the stream's end
            return
        rows, wrong = rows_of(pa.table({column: descend(batch, column) for column in layout.read}))
        for values in rows:
            values |= {picture.column: values[picture.path] for picture in layout.pictures if picture.path}
        leaves = (picture.data for picture in layout.pictures if picture.data)
        present = {leaf: descend(batch, leaf).is_valid().to_pylist() for leaf in leaves}

        def cell(column: str, index: int, start: int = start) -> Cell:
            return Cell(column, index, batch=start)

        yield from records(name, layout, first, rows, present, cell, wrong)
        first += batch.num_rows
