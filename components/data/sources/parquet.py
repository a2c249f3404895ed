"""Parquet files with bytes or paths of pictures. Bytes are not read: the footer tells which rows have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.address import Cell
from components.data.cells import descend
from components.data.source_files import SourceFiles
from components.data.sources.columnar import Layout, lay_out, readable, records, rows_of, said_of
from components.data.sources.record import Columns, Record, container_files, other_files
from components.errors import DataError

#: Rows decoded at a time to find those with bytes, in a file without statistics.
_ROWS = 64


def read_parquet(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """The rows of every ``.parquet`` file; the schemas of all are checked first."""
    files = container_files(store, file, (".parquet",))
    yield from other_files(store, file, files)
    layouts, faults = {}, dict[str, str]()
    for name in files:
        try:
            with readable(name, "parquet"), store.open_arrow(name) as stream:
                schema = pq.read_schema(stream)
        except DataError as error:
            faults[name] = said_of(error)
        else:
            layouts[name] = lay_out(name, schema, columns)
    for name in files:
        if name in faults:
            yield Record(name, None, fault=faults[name])
            continue
        try:
            with readable(name, "parquet"), store.open_arrow(name) as stream:
                yield from _records(name, pq.ParquetFile(stream), layouts[name])
        except DataError as error:
            yield Record(name, None, fault=said_of(error))


def _records(name: str, file: pq.ParquetFile, layout: Layout) -> Iterator[Record]:
    first = 0
    for group in range(file.num_row_groups):
        try:
            rows, wrong = rows_of(file.read_row_group(group, columns=layout.read))
            present = {picture.data: _present(file, group, picture.data) for picture in layout.pictures if picture.data}
        except (pa.ArrowException, OSError) as error:
            number = file.metadata.row_group(group).num_rows
            fault = f"its row group cannot be read: {error}"
            yield from (Record(f"{name} row {first + index}", None, fault=fault) for index in range(number))
            first += number
            continue

        def cell(column: str, index: int, first: int = first) -> Cell:
            return Cell(column, first + index)

        yield from records(name, layout, first, rows, present, cell, wrong)
        first += len(rows)


def _present(file: pq.ParquetFile, group: int, column: str) -> Sequence[bool]:
    """Which rows of a row group have a value in ``column``."""
    described = file.metadata.row_group(group)
    chunks = (described.column(index) for index in range(described.num_columns))
    statistics = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == column), None)
    if statistics is not None and statistics.has_null_count and statistics.null_count in (0, described.num_rows):
        return [statistics.null_count == 0] * described.num_rows
    batches = file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column])
    return [there for batch in batches for there in descend(batch, column).is_valid().to_pylist()]
