"""Reading a table: every row becomes something to draw, or a reason why not. None disappears."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.batch.row import COLUMNS, ID, BatchRow, read_row
from components.config import SamplingConfig
from components.data.source_files import SourceFiles
from components.data.sources.text import jsonl_records
from components.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """What a table asks for.

    Args:
        store: of the table's folder, which the references lie below.
        rows: those that can be drawn.
        faults: of the others, by id.
        order: the ids of all, as in the table.
    """

    store: SourceFiles
    rows: list[BatchRow]
    faults: dict[str, str]
    order: list[str]


def read_table(place: str | Path, sampling: SamplingConfig) -> Table:
    """Read a ``.jsonl``, ``.csv`` or ``.parquet`` file, local or by URL; no picture is opened.

    A row without an id is named by its number. The first row of an id has it, the others are faults.

    Raises:
        DataError: the file cannot be read, or holds no row.
    """
    folder, slash, name = str(place).rpartition("/")
    store = SourceFiles.at(folder or slash or ".")
    rows: list[BatchRow] = []
    faults: dict[str, str] = {}
    order: list[str] = []
    taken: set[str] = set()
    ignored: set[str] = set()
    for number, values in enumerate(_values(store, name), start=1):
        identifier, fault = _identify(values, f"{number:06d}", taken)
        taken.add(identifier)
        order.append(identifier)
        try:
            if fault:
                raise DataError(fault)
            rows.append(read_row(values, identifier, sampling))
            ignored |= {str(column) for column in values if column not in COLUMNS}
        except DataError as error:
            faults[identifier] = str(error)
    if not order:
        raise DataError(f"--table {place} holds no rows")
    if ignored:
        logger.info("these columns are not read: %s", ", ".join(sorted(ignored)))
    return Table(store, rows, faults, order)


def _identify(values: Any, number: str, taken: set[str]) -> tuple[str, str]:
    """The row's id, and what is wrong with the one that it gives, if anything is."""
    given = values.get("id") if isinstance(values, dict) else None
    wanted = number if given in (None, "") else str(given)
    if re.fullmatch(ID, wanted) and wanted not in taken:
        return wanted, ""
    fault = "id: an earlier row has the same" if wanted in taken else "id: letters, digits and . _ - only, at most 100"
    spare = f"row-{number}"
    while spare in taken:
        spare += "-"
    return spare, fault


def _values(store: SourceFiles, name: str) -> Iterator[Any]:
    """The rows by column; what is no row at all is None."""
    ending = name.rpartition(".")[2].lower()
    if ending not in ("jsonl", "csv", "parquet"):
        raise DataError(f"--table {name}: give a .jsonl, .csv or .parquet file")
    try:
        if ending == "parquet":
            with store.open_arrow(name) as stream:
                for batch in pq.ParquetFile(stream).iter_batches():
                    yield from batch.to_pylist()
            return
        text = store.read(name).decode("utf-8-sig")
        if ending == "jsonl":
            yield from (record.values for record in jsonl_records(text))
        else:
            yield from csv.DictReader(io.StringIO(text, newline=""))
    except (OSError, ValueError, csv.Error, pa.ArrowException, DataError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"--table {store.url}/{name} cannot be read: {reason}") from None
