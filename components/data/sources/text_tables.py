"""Rows of text files: JSON lines, or CSV with a header."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from components.data.source_files import SourceFiles
from components.data.sources.record import Columns, Record, fault_of_text, read_lines, require_columns

#: Fields that are JSON lists in CSV cells.
_LISTS = ("box", "head_box", "references")


def read_jsonl(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """One JSON object in each line; of a folder, its ``pairs.jsonl``."""
    return jsonl_records(read_lines(store, file or "pairs.jsonl"))


def read_csv(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """Rows of a CSV file; of a folder, its ``pairs.csv``. Empty cells are missing values, lists are JSON."""
    name = file or "pairs.csv"
    text = read_lines(store, name)
    require_columns(name, columns, csv_columns(text))
    return csv_records(text, columns)


def jsonl_records(text: str, where: str = "", folder: str = "") -> Iterator[Record]:
    """The records of ``text``, paths relative to ``folder``; a line of invalid JSON has no values."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            values, fault = _parsed(line)
            yield Record(f"{where}line {number}", values, folder, fault)


def _parsed(line: str) -> tuple[Any, str]:
    if fault := fault_of_text(line):
        return None, fault
    try:
        return json.loads(line), ""
    except (ValueError, RecursionError):  # ValueError: an integer of thousands of digits, too
        return None, "no JSON object"


def csv_columns(text: str) -> list[str]:
    """The column names of ``text``."""
    return next(csv.reader(io.StringIO(text, newline="")), [])


def csv_records(text: str, columns: Columns, where: str = "", folder: str = "") -> Iterator[Record]:
    """The records of ``text``, numbered as its lines if no cell contains a line break."""
    lists = {columns[field] for field in _LISTS}
    rows = csv.DictReader(io.StringIO(text, newline=""))
    for number in count(2):
        place = f"{where}line {number}"
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(place, None, folder, f"cannot be read as CSV: {error}")
            continue
        values = {name: _list(cell) if cell and name in lists else cell or None for name, cell in cells.items() if name}
        fault = next((said for cell in values.values() if isinstance(cell, str) and (said := fault_of_text(cell))), "")
        yield Record(place, values, folder, fault)


def _list(cell: str) -> Any:
    """The JSON list in ``cell``; other text is left to fail validation."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell
