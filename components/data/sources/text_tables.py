"""Rows of text files: JSON lines, or CSV with a header."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from components.data.source_files import SourceFiles
from components.data.sources.record import Columns, Record, fault_of_text, open_text, require_columns

#: Fields that are JSON lists in CSV cells.
_LISTS = ("box", "head_box", "references")


def read_jsonl(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """One JSON object in each line; of a folder, its ``pairs.jsonl``."""
    with open_text(store, file or "pairs.jsonl") as lines:
        yield from jsonl_records(lines)


def read_csv(store: SourceFiles, file: str | None, columns: Columns) -> Iterator[Record]:
    """Rows of a CSV file; of a folder, its ``pairs.csv``. Empty cells are missing values, lists are JSON."""
    name = file or "pairs.csv"
    with open_text(store, name) as text:
        rows = csv.DictReader(text)
        require_columns(name, columns, csv_columns(rows))
        yield from csv_records(rows, columns)


def jsonl_records(lines: Iterable[str], where: str = "", folder: str = "") -> Iterator[Record]:
    """The records of ``lines``, paths relative to ``folder``; a line of invalid JSON has no values."""
    for number, line in enumerate(_at_line_feeds(lines), start=1):
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


def _at_line_feeds(lines: Iterable[str]) -> Iterator[str]:
    """``lines`` of a text whose line breaks are unchanged, joined where a carriage return alone ends them."""
    start = ""
    for line in lines:
        start += line
        if line.endswith("\n"):
            yield start
            start = ""
    if start:
        yield start


def csv_columns(rows: csv.DictReader[str]) -> Sequence[str]:
    """The column names of the table."""
    return rows.fieldnames or []


def csv_records(rows: csv.DictReader[str], columns: Columns, where: str = "", folder: str = "") -> Iterator[Record]:
    """The records of ``rows``, numbered as lines if no cell contains a line break."""
    lists = {columns[field] for field in _LISTS}
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
