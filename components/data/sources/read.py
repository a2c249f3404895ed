"""Reading a source: its records, checked one by one, become rows with identifiers and addresses."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import ValidationError

from components.config import DataConfig
from components.data.address import parse
from components.data.schema import SourceRow, SubjectCaption
from components.data.source_files import SourceFiles
from components.data.sources.datasets import read_datasets
from components.data.sources.dreambench import read_dreambench
from components.data.sources.folder import read_folder
from components.data.sources.parquet import read_parquet
from components.data.sources.record import REQUIRED, Columns, Held, Reader, Record, match_columns, missing_column
from components.data.sources.text import read_csv, read_jsonl
from components.data.sources.webdataset import read_webdataset
from components.errors import DataError

_READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "world": read_jsonl,
    "csv": read_csv,
    "folder": read_folder,
    "parquet": read_parquet,
    "webdataset": read_webdataset,
    "dreambench": read_dreambench,
    "datasets": read_datasets,
}
#: Faults that are told in full.
_SHOWN = 3


@dataclass(frozen=True)
class Source:
    """A source that has been read: all rows, in a fixed order, and where their pictures are."""

    store: SourceFiles
    rows: list[SourceRow]


def read_source(data: DataConfig) -> Source:
    """Read the rows of ``data.source``, at most ``data.limit``; no picture is opened.

    Raises:
        DataError: the source is missing or empty, or any of its rows is not a `SubjectCaption` or points outside it.
    """
    columns = match_columns(data.columns)
    store, file = _locate(data)
    checked = _Checked(store, columns)
    for record in islice(_READERS[data.format](store, file, columns), data.limit):
        checked.add(record)
    if checked.faults:
        more = f" (and {checked.faulty - _SHOWN} more)" if checked.faulty > _SHOWN else ""
        raise DataError(f"data.source: {data.source}: {'; '.join(checked.faults)}{more}")
    if not checked.rows:
        raise DataError(f"data.source: {data.source} holds no rows in format {data.format!r}")
    return Source(store, checked.rows)


def _locate(data: DataConfig) -> tuple[SourceFiles, str | None]:
    """The store at ``data.source``, or at the folder of the file that it names."""
    try:
        store = SourceFiles.at(data.source)
        kind = store.filesystem.info(store.root or "/")["type"]
    except DataError as error:
        raise DataError(f"data.source: {error}") from None
    except FileNotFoundError:
        hint = "; draw it with `realcustom world`" if data.format == "world" else ""
        raise DataError(
            f"data.source: {data.source} does not exist; give a folder or file in format {data.format!r}{hint}"
        ) from None
    except Exception as error:  # every remote filesystem has errors of its own
        raise DataError(f"data.source: {data.source} cannot be opened: {type(error).__name__}: {error}") from error
    if kind == "directory":
        return store, None
    folder, _, name = store.url.rpartition("/")
    return SourceFiles.at(folder or "/"), name


@dataclass
class _Checked:
    """Rows that follow the schema, and what is wrong with those that do not."""

    store: SourceFiles
    columns: Columns
    rows: list[SourceRow] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    faulty: int = 0
    _seen: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        try:
            self.rows.append(self._row(record))
        except (ValueError, DataError) as error:
            self.faulty += 1
            if len(self.faults) < _SHOWN:
                self.faults.append(f"{record.where}: {_said(error, self.columns)}")

    def _row(self, record: Record) -> SourceRow:
        values = self._fields(record)
        image = values.get("image")
        for name in ("image", "mask", "references"):
            if name in values:
                values[name] = _address(self.store, record.folder, name, values[name])
        row = SubjectCaption.model_validate(values)
        shown = image.name if isinstance(image, Held) else row.image
        self._seen[shown] += 1
        name = shown if self._seen[shown] == 1 else f"{shown}#{self._seen[shown]}"
        return {
            "subject": {
                "id": name,
                "image": row.image,
                "mask": row.mask or None,
                "box": row.box,
                "head_box": row.head_box,
            },
            "caption": row.caption,
            "word": row.word,
            "group": row.group or shown,
            "references": row.references,
            "source": row.source or shown,
            "licence": row.licence,
        }

    def _fields(self, record: Record) -> dict[str, Any]:
        """The record's values under the names of the schema; those that are None are left out."""
        if record.fault or not isinstance(record.values, Mapping):
            raise ValueError(record.fault or "not an object with fields")
        for name in REQUIRED:
            if (column := self.columns[name]) not in record.values:
                raise ValueError(missing_column(name, column, record.values))
        values = {name: record.values.get(column) for name, column in self.columns.items() if column}
        return {name: value for name, value in values.items() if value is not None}


def _address(store: SourceFiles, folder: str, field: str, value: Any) -> Any:
    """The address of a picture (or a list of them); what is neither is left for the schema to refuse."""
    if isinstance(value, Held):
        return value.address
    if isinstance(value, list):
        return [_address(store, folder, field, one) for one in value]
    return _inside(store, folder, field, value) if isinstance(value, str) and value else value


def _inside(store: SourceFiles, folder: str, field: str, path: str) -> str:
    """``path`` relative to the store's root, links followed."""
    try:
        real = store.path(posixpath.normpath(posixpath.join(folder, path)))
    except DataError as error:
        raise ValueError(f"{field}: {error}; move the file into it") from None
    inner = real[len(store.root) + 1 :]
    if parse(inner)[1] is not None:
        raise ValueError(f"{field}: {path!r} reads as a member of a container; rename the file")
    return inner


def _said(error: ValueError | DataError, columns: Columns) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    name = str(first["loc"][0])
    written = name if columns[name] == name else f"{name} (column {columns[name]!r})"
    return ".".join([written, *map(str, first["loc"][1:])]) + f": {first['msg']}"
