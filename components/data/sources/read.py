"""Reading a source: records are validated and become rows with identifiers and addresses."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import ValidationError

from components.config import DataConfig
from components.data.address import parse
from components.data.rejects import PassedOver, Reject, Rejects
from components.data.row_index import digest
from components.data.schema import SourceRow, SubjectCaption, read_row
from components.data.source_files import SourceFiles
from components.data.sources.datasets import read_datasets
from components.data.sources.dreambench import read_dreambench
from components.data.sources.folder import read_folder
from components.data.sources.parquet import read_parquet
from components.data.sources.record import (
    REQUIRED,
    Columns,
    ContainedPicture,
    Reader,
    Record,
    match_columns,
    missing_column,
)
from components.data.sources.text_tables import read_csv, read_jsonl
from components.data.sources.webdataset import read_webdataset
from components.data.spool import Spool
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
#: Maximum number of errors in a message.
_MAX_SHOWN = 3
#: Maximum number of files that are named of those that were passed over for one reason.
_MAX_NAMED = 20
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A source that was read: all rows, in a deterministic order and on disk, and the store of their pictures."""

    store: SourceFiles
    rows: Sequence[SourceRow]
    #: Rows that are no `SubjectCaption`, of the stage ``source``.
    rejects: Rejects = field(default_factory=Rejects)
    #: By reason.
    passed_over: dict[str, PassedOver] = field(default_factory=dict)


def read_source(data: DataConfig) -> Source:
    """Read the rows of ``data.source``, at most ``data.limit``; no picture is opened.

    A row that is not a `SubjectCaption`, cannot be read or points outside the source is rejected.

    Raises:
        DataError: the source is missing, empty or lacks a column; or more than ``data.max_rejected`` of its rows are
            rejected.
    """
    columns = match_columns(data.columns)
    store, file = _locate(data)
    checked = _Checked(store, columns)
    everything = _READERS[data.format](store, file, columns)
    for record in islice(filter(checked.counts, everything), data.limit):
        checked.add(record)
    if not checked.rows and not checked.rejects:
        raise DataError(f"data.source: {data.source} holds no rows in format {data.format!r}")
    check_share(data, checked.rejects, len(checked.rows) + len(checked.rejects))
    for reason, files in checked.passed_over.items():
        logger.warning("data.source: passed over %d %s: %s", files.count, reason, ", ".join(files.names))
    return Source(store, checked.rows, checked.rejects, checked.passed_over)


def check_share(data: DataConfig, rejects: Rejects, rows: int) -> None:
    """Check that not too many of ``rows`` are rejected.

    Raises:
        DataError: all are, or more than ``data.max_rejected``.
    """
    if not rejects or (len(rejects) < rows and len(rejects) <= data.max_rejected * rows):
        return
    shown = "; ".join(f"{reject.id}: {reject.reason}" for reject in rejects[:_MAX_SHOWN])
    more = f" (and {len(rejects) - _MAX_SHOWN} more)" if len(rejects) > _MAX_SHOWN else ""
    limit = f" (data.max_rejected is {data.max_rejected:g})" if len(rejects) < rows else ""
    raise DataError(f"data.source: {data.source}: {len(rejects)} of {rows} rows are rejected{limit}: {shown}{more}")


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
    except Exception as error:  # every remote filesystem has its own error types
        raise DataError(f"data.source: {data.source} cannot be opened: {type(error).__name__}: {error}") from error
    if kind == "directory":
        return store, None
    folder, _, name = store.url.rpartition("/")
    return SourceFiles.at(folder or "/"), name


@dataclass
class _Checked:
    """Valid rows, rejects of the invalid ones, and files that are no rows."""

    store: SourceFiles
    columns: Columns
    rows: Spool[SourceRow] = field(default_factory=lambda: Spool(read=read_row))
    rejects: Rejects = field(default_factory=Rejects)
    passed_over: dict[str, PassedOver] = field(default_factory=dict)
    #: Digests of the names of pictures, and how often those with several rows were seen.
    _once: set[int] = field(default_factory=set)
    _again: Counter[int] = field(default_factory=Counter)

    def counts(self, record: Record) -> bool:
        """Whether ``record`` is a row; a file that was passed over is noted."""
        if record.passed_over:
            seen = self.passed_over.get(record.passed_over, PassedOver(0, ()))
            names = (*seen.names, record.where) if seen.count < _MAX_NAMED else seen.names
            self.passed_over[record.passed_over] = PassedOver(seen.count + 1, names)
        return not record.passed_over

    def add(self, record: Record) -> None:
        try:
            self.rows.append(self._row(record))
        except (ValueError, DataError) as error:
            self.rejects.append(Reject(record.where, record.where, "source", _said(error, self.columns)))

    def _row(self, record: Record) -> SourceRow:
        values = self._fields(record)
        image = values.get("image")
        for name in ("image", "mask", "references"):
            if name in values:
                values[name] = _address(self.store, record.folder, name, values[name])
        row = SubjectCaption.model_validate(values)
        shown = image.name if isinstance(image, ContainedPicture) else row.image
        return {
            "subject": {
                "id": self._named(shown),
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

    def _named(self, picture: str) -> str:
        """The id of the next row of ``picture``."""
        known = digest(picture)
        if known not in self._once:
            self._once.add(known)
            return picture
        self._again[known] += 1
        return f"{picture}#{self._again[known] + 1}"

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
    """The address of a picture (or a list of them); other values are left to fail validation."""
    if isinstance(value, ContainedPicture):
        return value.address
    if isinstance(value, list):
        return [_address(store, folder, field, one) for one in value]
    return _inside(store, folder, field, value) if isinstance(value, str) and value else value


def _inside(store: SourceFiles, folder: str, field: str, path: str) -> str:
    """``path`` relative to the store's root, with links resolved."""
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
