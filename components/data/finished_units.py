"""Finished units on disk: their shards, and a record for each, written last, so that its shards exist.

::

    prepared.parts/
      3f0c….64x64.parquet      rows of one unit and bucket
      3f0c….references.parquet what rows of all its buckets show as references
      3f0c….json               the unit's record
      3f0c….rows               the rows of a unit that this run has not finished, as JSON
      3f0c….tries              one byte for each time that this run started the unit
      unconditional-<encoders>.safetensors   what stands for no reference and no caption
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from components.data.plan import Split, WordOrigin
from components.data.rejects import Reject
from components.data.schema import SCHEMA_VERSION
from components.data.spool import Spool
from components.data.units import MarkedRow, Unit

#: Maximum bytes of a row group of several references, so that few others are read with a reference.
REFERENCE_GROUP_BYTES = 1 << 23
_PARTIAL = ".partial"


class RowRecord(BaseModel):
    """An accepted row: address, perceptual hash, full size and bucket of its picture; its word and its origin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    image: str
    picture_hash: str
    size: tuple[int, int]
    bucket: str
    word: str
    word_from: WordOrigin


class UnitRecord(BaseModel):
    """The outcome of a unit: every one of its rows is in ``rows`` or in ``rejects``.

    ``marks`` are those of its rows (`MarkedJob`), ``files`` the bytes of each bucket's shard, and ``references`` those
    of its references.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    key: str
    split: Split
    marks: list[str]
    rows: list[RowRecord]
    rejects: list[Reject]
    files: dict[str, int]
    references: int = 0


class FinishedMarks(Mapping[str, list[str]]):
    """The marks of the rows of finished units, by key; in a temporary file, however many units there are."""

    def __init__(self, records: Iterable[UnitRecord]) -> None:
        self._marks = Spool[list[str]]()
        self._places: dict[str, int] = {}
        for record in records:
            self._places[record.key] = len(self._marks)
            self._marks.append(record.marks)

    def __getitem__(self, key: str) -> list[str]:
        return self._marks[self._places[key]]

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class FinishedUnits:
    """The directory of finished units. Every node of a cluster must see it at the same path."""

    directory: Path

    def shard(self, key: str, bucket: str) -> Path:
        return self.directory / f"{key}.{bucket}.parquet"

    def references(self, key: str) -> Path:
        return self.shard(key, "references")

    def record(self, key: str) -> Path:
        return self.directory / f"{key}.json"

    def unconditional(self, encoders: str) -> Path:
        """The file of `components.model.unconditional_inputs.UnconditionalInputs`, made by these ``encoders``."""
        return self.directory / f"{unconditional_name(encoders)}.safetensors"

    def _tries(self, key: str) -> Path:
        return self.directory / f"{key}.tries"

    def _rows(self, key: str) -> Path:
        return self.directory / f"{key}.rows"

    def finished(self) -> Iterator[UnitRecord]:
        """The records of units whose shards are complete."""
        for file in self.directory.glob("*.json"):
            if (record := self.find(file.stem)) is not None:
                yield record

    def plan(self, unit: Unit) -> None:
        """Write the rows of ``unit`` for the process that will curate it."""
        with atomic_write(self._rows(unit.key)) as partial:
            partial.write_text(json.dumps(list(unit.jobs)))

    def planned(self, key: str) -> Unit:
        """The unit that was written by `plan`."""
        return Unit(tuple(MarkedRow(*job) for job in json.loads(self._rows(key).read_bytes())))

    def find(self, key: str) -> UnitRecord | None:
        """The record of unit ``key``; None if it is not finished, or its shards are missing."""
        try:
            record = UnitRecord.model_validate_json(self.record(key).read_bytes())
            sizes = {bucket: self.shard(key, bucket).stat().st_size for bucket in record.files}
            references = self.references(key).stat().st_size if record.references else 0
        except (OSError, ValidationError):
            return None
        whole = sizes == record.files and references == record.references
        return record if whole and record.schema_version == SCHEMA_VERSION else None

    def begin(self, key: str) -> int:
        """Record the start of a unit; returns how often this run had started it before."""
        file = self._tries(key)
        with file.open("ab") as stream:
            stream.write(b".")
            return stream.tell() - 1

    def finish(self, record: UnitRecord) -> None:
        """Write ``record``, after its shards. Idempotent."""
        with atomic_write(self.record(record.key)) as partial:
            partial.write_text(record.model_dump_json())
        for file in (self._tries(record.key), self._rows(record.key)):
            file.unlink(missing_ok=True)

    def sweep(self, kept: Collection[str]) -> None:
        """Remove files of units that are not in ``kept``."""
        for file in self.directory.iterdir():
            if file.name.split(".")[0] not in kept:
                file.unlink(missing_ok=True)

    def forget_unfinished(self) -> None:
        """Remove unfinished files of a killed run."""
        for pattern in (f".*{_PARTIAL}", "*.tries", "*.rows"):
            for file in self.directory.glob(pattern):
                file.unlink(missing_ok=True)


def write_shard(file: Path, tables: Iterable[pa.Table], group_bytes: int | None = None) -> int:
    """Write ``tables``, a row group each, to ``file`` atomically; without tables, no file. Returns its bytes.

    Args:
        group_bytes: tables with more bytes are cut into several row groups, of a row at least.
    """
    tables = iter(tables)
    first = next(tables, None)
    if first is None:
        return 0
    with atomic_write(file) as partial:
        with pq.ParquetWriter(partial, first.schema, compression="zstd", **_encodings(first.schema)) as writer:
            for table in chain([first], tables):
                row_bytes = max(1, table.nbytes // max(1, len(table)))
                writer.write_table(table, max(1, group_bytes // row_bytes) if group_bytes else None)
        return partial.stat().st_size


def _encodings(schema: pa.Schema) -> dict[str, list[str]]:
    """Encodings of the columns: bytes of the same significance together where tensors have half precision.

    Dictionaries, Arrow's default, hold almost every half number there is: they take four times as long to read.
    """
    kinds = {column.name: column.type for column in schema}
    tensors = {name: kind.value_type for name, kind in kinds.items() if isinstance(kind, pa.FixedShapeTensorType)}
    paths = {name: f"{name}.list.element" if name in tensors else name for name in kinds}
    halves = [name for name, kind in tensors.items() if kind == pa.float16()]
    return {
        "use_byte_stream_split": [paths[name] for name in halves],
        "use_dictionary": [path for name, path in paths.items() if name not in halves],
    }


def unconditional_name(encoders: str) -> str:
    """The name of the file without its ending."""
    return f"unconditional-{encoders}"


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it is synced and renamed to ``file`` when the block succeeds."""
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
