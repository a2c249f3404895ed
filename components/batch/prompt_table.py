"""Reading a table of prompts: every row becomes a `BatchRow` or a reason why it is invalid."""

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
from components.data.sources.text_tables import jsonl_records
from components.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptTable:
    """A table that was read.

    Args:
        store: the table's folder, below which the references are.
        rows: valid rows.
        faults: reasons of the invalid rows, by id.
        order: ids of all rows, in the order of the table.
    """

    store: SourceFiles
    rows: list[BatchRow]
    faults: dict[str, str]
    order: list[str]


def read_table(place: str | Path, sampling: SamplingConfig) -> PromptTable:
    """Read a ``.jsonl``, ``.csv`` or ``.parquet`` file, local or by URL; no picture is opened.

    A row without an id is named by its number. If several rows have the same id, all but the first are invalid.

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
    return PromptTable(store, rows, faults, order)


def _identify(values: Any, number: str, taken: set[str]) -> tuple[str, str]:
    """The row's id, and a reason if the id given in the row is invalid."""
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
    """The rows by column; None for a line that is no row."""
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
            yield from (record.values for record in jsonl_records(io.StringIO(text, newline="")))
        else:
            yield from csv.DictReader(io.StringIO(text, newline=""))
    except (OSError, ValueError, csv.Error, pa.ArrowException, DataError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"--table {store.url}/{name} cannot be read: {reason}") from None
