"""Assembly of finished units into a dataset: near-duplicates are removed, other units' files are linked unchanged."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.duplicates import find_duplicates
from components.data.finished_units import REFERENCE_GROUP_BYTES, FinishedUnits, RowRecord, UnitRecord, write_shard
from components.data.manifest import REFERENCES, SHARDS, references_folder, shard_folder
from components.data.plan import SPLITS
from components.data.rejects import Reject
from components.data.removed_rows import RemovedRows

_DUPLICATE = "near-duplicate of another picture"
_UNCONFIRMED = "word: the caption's head noun, as the picture confirms no phrase of the caption"


@dataclass(frozen=True)
class Assembled:
    """The assembled dataset: rows of each split and bucket, types of columns of rows and references, rejected rows, and
    how many rows have each note."""

    buckets: dict[str, dict[str, int]]
    columns: dict[str, str]
    references: dict[str, str]
    rejects: list[Reject]
    notes: dict[str, int]


def assemble(
    parts: FinishedUnits,
    records: Sequence[UnitRecord],
    sources: Mapping[str, str],
    directory: Path,
    keep_duplicates: bool,
) -> Assembled:
    """Write the shards of ``records`` into the dataset ``directory``.

    Args:
        sources: id -> source of every row, in the source's order: of two near-duplicates the first is kept.
    """
    rows = {row.id: row for record in records for row in record.rows}
    ordered = [rows[name] for name in sources if name in rows]
    duplicated = {} if keep_duplicates else duplicates(ordered)
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for record in records:
        left_out = {row.id for row in record.rows if row.id in duplicated}
        kept = Counter(row.bucket for row in record.rows if row.id not in left_out)
        _place(parts, record, directory, sorted(kept), left_out)
        counts[record.split].update(kept)
    rejects = [reject for record in records for reject in record.rejects]
    rejects += [Reject(name, sources[name], "duplicate", _DUPLICATE, first) for name, first in duplicated.items()]
    buckets = {split: dict(sorted(c.items())) for split, c in counts.items()}
    unconfirmed = sum(row.word_from == "caption" and row.id not in duplicated for row in ordered)
    shards = {file.parent.name: file for file in sorted(directory.glob(f"{SHARDS}/split=*/bucket=*/*.parquet"))}
    references = list(islice(directory.glob(f"{REFERENCES}/split=*/*.parquet"), 1))  # all have the same columns
    notes = {_UNCONFIRMED: unconfirmed} if unconfirmed else {}
    return Assembled(buckets, _columns(shards.values()), _columns(references), rejects, notes)


def _place(
    parts: FinishedUnits, record: UnitRecord, directory: Path, buckets: Sequence[str], left_out: Collection[str]
) -> None:
    """Put the shards of ``buckets`` and their references into the dataset, without the rows ``left_out``."""
    name = f"{record.key}.parquet"
    shards = {
        parts.shard(record.key, bucket): shard_folder(directory, record.split, bucket) / name for bucket in buckets
    }
    if not shards:
        return
    references = parts.references(record.key), references_folder(directory, record.split) / name
    for target in (*shards.values(), references[1]):
        target.parent.mkdir(parents=True, exist_ok=True)
    if not left_out:
        for file, target in (*shards.items(), references):
            link(file, target)
        return
    removed = RemovedRows.of([parts.shard(record.key, bucket) for bucket in record.files], left_out)
    for shard, target in shards.items():
        write_shard(target, removed.from_shard(shard))
    write_shard(references[1], removed.from_references(references[0]), REFERENCE_GROUP_BYTES)


def duplicates(rows: Sequence[RowRecord]) -> dict[str, str]:
    """Rows whose picture is a near-duplicate of an earlier one, each with the first row of that picture.

    Several rows of the same picture file, for example with different captions, are no duplicates.
    """
    first: dict[str, RowRecord] = {}
    for row in rows:
        first.setdefault(row.image, row)
    duplicated = find_duplicates({row.id: row.picture_hash for row in first.values()})
    return {row.id: duplicated[first[row.image].id] for row in rows if first[row.image].id in duplicated}


def link(file: Path, target: Path) -> None:
    """Hard-link ``file`` as ``target``; copy it where the filesystem has no links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _columns(files: Iterable[Path]) -> dict[str, str]:
    """The type of every column; lengths that differ between ``files`` are ``*``."""
    columns: dict[str, str] = {}
    for file in files:
        for column in pq.read_schema(file):
            kind = _kind(column.type)
            known = columns.setdefault(column.name, kind)
            if known != kind:
                sizes = zip(known.split(", "), kind.split(", "), strict=True)
                columns[column.name] = ", ".join(a if a == b else _starred(a) for a, b in sizes)
    return columns


def _kind(column: pa.DataType) -> str:
    """For example ``string`` or ``halffloat[4, 16, 16]``."""
    if isinstance(column, pa.FixedShapeTensorType):
        return f"{column.value_type}[{', '.join(map(str, column.shape))}]"
    return str(column)


def _starred(size: str) -> str:
    return re.sub(r"\d+(?=\]?$)", "*", size)
