"""Reading single values of parquet files and Arrow streams without loading the whole file."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.data.address import Cell
from components.errors import DataError

#: Maximum bytes of one column in memory: a row group, or a part of a larger one.
WINDOW = 128 << 20
#: Cached parts of each process: rows are read in order, pictures and masks alternately.
_KEPT = 2


class TableFile(Hashable, Protocol):
    """A file that can be opened repeatedly, and used as a cache key."""

    def open(self) -> pa.NativeFile: ...


def read_cell(table: TableFile, cell: Cell, max_bytes: int | None = None) -> bytes:
    """The bytes in ``cell`` of ``table``.

    Raises:
        DataError: no such column or row, nothing in it, more than ``max_bytes``, or a damaged file.
        OSError: the file cannot be read.
    """
    try:
        value = _value(table, cell)
    except (pa.ArrowException, IndexError, KeyError) as error:
        if isinstance(error, OSError):
            raise
        raise DataError("the table is damaged, or does not hold the cell") from None
    if not value.is_valid:
        raise DataError("the cell is empty")
    buffer = value.as_buffer()
    if max_bytes is not None and buffer.size > max_bytes:
        raise DataError("more bytes than data.max_bytes")
    return buffer.to_pybytes()


def descend(columns: pa.RecordBatch, path: str) -> pa.Array:
    """Column ``path`` of ``columns``: a name, or the dotted path of a field of a struct."""
    if path in columns.schema.names:
        return columns.column(path)
    parent, _, name = path.rpartition(".")
    if not parent:
        raise KeyError(path)
    return pc.struct_field(descend(columns, parent), name)


def _value(table: TableFile, cell: Cell) -> Any:
    if cell.batch is not None:
        return descend(_record_batch(table, cell.batch), cell.column)[cell.row]
    row = cell.row
    for group, rows in enumerate(_rows_of_groups(table)):
        if row < rows:
            return _parquet_value(table, cell.column, group, row)
        row -= rows
    raise IndexError(cell.row)


def _parquet_value(table: TableFile, column: str, group: int, row: int) -> Any:
    part, place = divmod(row, _window_rows(table, column, group))
    return descend(_window(table, column, group, part), column)[place]


@lru_cache(maxsize=_KEPT)
def _record_batch(table: TableFile, start: int) -> pa.RecordBatch:
    with table.open() as file:
        schema = pa.ipc.read_schema(file)
        file.seek(start)
        return pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)


@lru_cache(maxsize=_KEPT)
def _metadata(table: TableFile) -> Any:
    with table.open() as file:
        return pq.read_metadata(file)


def _rows_of_groups(table: TableFile) -> list[int]:
    metadata = _metadata(table)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _window_rows(table: TableFile, column: str, group: int) -> int:
    """Number of rows of ``column`` that fit into `WINDOW`, by their average size; at most the whole group."""
    described = _metadata(table).row_group(group)
    chunks = (described.column(index) for index in range(described.num_columns))
    size = next((chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column), 0)
    return max(1, described.num_rows if size <= WINDOW else described.num_rows * WINDOW // size)


@lru_cache(maxsize=_KEPT)
def _window(table: TableFile, column: str, group: int, part: int) -> pa.RecordBatch:
    """Part ``part`` of a row group's column; earlier parts are decoded and discarded."""
    with table.open() as stream:
        file = pq.ParquetFile(stream, metadata=_metadata(table), buffer_size=1 << 20)
        rows = _window_rows(table, column, group)
        parts = file.iter_batches(batch_size=rows, row_groups=[group], columns=[column])
        for index, batch in enumerate(parts):
            if index == part:
                return batch
    raise IndexError(part)
