"""Assembly of finished units into a dataset: near-duplicates are removed, other shards are linked unchanged."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.data.duplicates import find_duplicates
from components.data.finished_units import FinishedUnits, RowRecord, UnitRecord, write_shard
from components.data.manifest import shard_folder
from components.data.plan import SPLITS
from components.data.rejects import Reject

_DUPLICATE = "near-duplicate of another picture"
_UNCONFIRMED = "word: the caption's head noun, as the picture confirms no phrase of the caption"


@dataclass(frozen=True)
class Assembled:
    """The assembled dataset: rows of each split and bucket, types of the columns, rejected rows; note -> rows."""

    buckets: dict[str, dict[str, int]]
    columns: dict[str, str]
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
        kept = [row for row in record.rows if row.id not in duplicated]
        held = Counter(row.bucket for row in record.rows)
        for bucket, number in sorted(Counter(row.bucket for row in kept).items()):
            target = shard_folder(directory, record.split, bucket) / f"{record.key}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            shard = parts.shard(record.key, bucket)
            if number == held[bucket]:
                link(shard, target)
            else:
                write_shard(target, _without(shard, duplicated))
            counts[record.split][bucket] += number
    rejects = [reject for record in records for reject in record.rejects]
    rejects += [Reject(name, sources[name], "duplicate", _DUPLICATE, first) for name, first in duplicated.items()]
    buckets = {split: dict(sorted(c.items())) for split, c in counts.items()}
    unconfirmed = sum(row.word_from == "caption" and row.id not in duplicated for row in ordered)
    return Assembled(buckets, _columns(directory), rejects, {_UNCONFIRMED: unconfirmed} if unconfirmed else {})


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


def _without(shard: Path, left_out: Collection[str]) -> Iterator[pa.Table]:
    """The rows of ``shard`` except ``left_out``, a row group at a time."""
    names = pa.array(list(left_out), pa.string())
    with pq.ParquetFile(shard) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            kept = table.filter(pc.invert(pc.is_in(table["id"], names)))
            if len(kept):
                yield kept


def _columns(directory: Path) -> dict[str, str]:
    """The type of every column; lengths that differ between buckets are ``*``."""
    columns: dict[str, str] = {}
    shards = {file.parent.name: file for file in sorted(directory.glob("*/split=*/bucket=*/*.parquet"))}
    for shard in shards.values():
        for column in pq.read_schema(shard):
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
