"""Rows of text files: JSON lines, or CSV with a header."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from components.data.source_files import SourceFiles
from components.data.sources.record import Columns, Record, read_text, require_columns
from components.errors import DataError

#: Fields that are JSON lists in CSV cells.
_LISTS = ("box", "head_box", "references")


def read_jsonl(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """One JSON object in each line; of a folder, its ``pairs.jsonl``."""
    return jsonl_records(read_text(store, file or "pairs.jsonl"))


def read_csv(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """Rows of a CSV file; of a folder, its ``pairs.csv``. Empty cells are missing values, lists are JSON."""
    name = file or "pairs.csv"
    text = read_text(store, name)
    require_columns(name, columns, csv_columns(text))
    return csv_records(text, columns)


def jsonl_records(text: str, where: str = "", folder: str = "") -> Iterator[Record]:
    """The records of ``text``, paths relative to ``folder``; a line of invalid JSON has no values."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                values = None
            yield Record(f"{where}line {number}", values, folder)


def csv_columns(text: str) -> list[str]:
    """The column names of ``text``."""
    return next(csv.reader(io.StringIO(text, newline="")), [])


def csv_records(text: str, columns: Columns, where: str = "", folder: str = "") -> Iterator[Record]:
    """The records of ``text``, numbered as its lines if no cell contains a line break."""
    lists = {columns[field] for field in _LISTS}
    try:
        for number, cells in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=2):
            values = {
                name: _list(cell) if cell and name in lists else cell or None for name, cell in cells.items() if name
            }
            yield Record(f"{where}line {number}", values, folder)
    except csv.Error as error:
        raise DataError(f"data.source: {where or 'the file '}cannot be read as CSV: {error}") from None


def _list(cell: str) -> Any:
    """The JSON list in ``cell``; other text is left to fail validation."""
    try:
        return json.loads(cell)
    except (json.JSONDecodeError, RecursionError):
        return cell
