"""Assembly of finished units into a dataset: near-duplicates are removed, other units' files are linked unchanged."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.duplicates import find_duplicates, hash_bits
from components.data.finished_units import REFERENCE_GROUP_BYTES, FinishedUnits, UnitRecord, write_shard
from components.data.manifest import REFERENCES, SHARDS, references_folder, shard_folder
from components.data.plan import SPLITS
from components.data.rejects import Reject, Rejects
from components.data.removed_rows import RemovedRows
from components.data.row_index import RowIndex, digest

_DUPLICATE = "near-duplicate of another picture"
_UNCONFIRMED = "word: the caption's head noun, as the picture confirms no phrase of the caption"


@dataclass(frozen=True)
class Assembled:
    """The assembled dataset: rows of each split and bucket, types of columns of rows and references, rejected rows, and
    how many rows have each note."""

    buckets: dict[str, dict[str, int]]
    columns: dict[str, str]
    references: dict[str, str]
    rejects: Rejects
    notes: dict[str, int]


def assemble(
    parts: FinishedUnits, keys: Sequence[str], index: RowIndex, directory: Path, keep_duplicates: bool
) -> Assembled:
    """Write the shards of the finished units ``keys`` into the dataset ``directory``, one unit after the other.

    Args:
        index: the rows of the source, in its order: of two near-duplicates the first is kept.
    """
    first = _no_duplicates(index) if keep_duplicates else _first_alike(parts, keys, index)
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    rejects, unconfirmed = Rejects(), 0
    for record in _records(parts, keys):
        places = {row.id: index.place(row.id) for row in record.rows}
        left_out = {name for name, place in places.items() if first[place] != place}
        kept = [row for row in record.rows if row.id not in left_out]
        _place(parts, record, directory, sorted({row.bucket for row in kept}), left_out)
        counts[record.split].update(row.bucket for row in kept)
        unconfirmed += sum(row.word_from == "caption" for row in kept)
        rejects.extend(record.rejects)
    rejects.extend(_rejected_duplicates(index, first))
    buckets = {split: dict(sorted(c.items())) for split, c in counts.items()}
    shards = {file.parent.name: file for file in sorted(directory.glob(f"{SHARDS}/split=*/bucket=*/*.parquet"))}
    references = list(islice(directory.glob(f"{REFERENCES}/split=*/*.parquet"), 1))  # all have the same columns
    notes = {_UNCONFIRMED: unconfirmed} if unconfirmed else {}
    return Assembled(buckets, _columns(shards.values()), _columns(references), rejects, notes)


def _records(parts: FinishedUnits, keys: Sequence[str]) -> Iterator[UnitRecord]:
    return (record for key in keys if (record := parts.find(key)))


def _no_duplicates(index: RowIndex) -> NDArray[np.int64]:
    return np.arange(len(index))


def _first_alike(parts: FinishedUnits, keys: Sequence[str], index: RowIndex) -> NDArray[np.int64]:
    """For each row of the source the place of the first accepted row whose picture its own duplicates, or its own."""
    accepted = np.zeros(len(index), bool)
    pictures, hashes = np.zeros(len(index), np.uint64), np.zeros((len(index), 4), np.uint64)
    for record in _records(parts, keys):
        for row in record.rows:
            place = index.place(row.id)
            accepted[place], pictures[place], hashes[place] = True, digest(row.image), hash_bits(row.picture_hash)
    places = np.flatnonzero(accepted)
    first = _no_duplicates(index)
    first[places] = places[duplicates(pictures[places], hashes[places])]
    return first


def duplicates(pictures: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first one whose picture its own duplicates; its own index if there is none.

    Several rows of the same picture file, for example with different captions, are no duplicates.

    Args:
        pictures: digests [n] of the rows' picture files.
        hashes: `picture_hash` [n, 4].
    """
    _, first, file = np.unique(pictures, return_index=True, return_inverse=True)
    order = np.argsort(first)  # files in the order of their first rows
    alike = np.empty(len(first), np.int64)
    alike[order] = first[order][find_duplicates(hashes[first[order]])]
    own = alike == first
    return np.where(own[file], np.arange(len(pictures)), alike[file])


def _rejected_duplicates(index: RowIndex, first: NDArray[np.int64]) -> Iterator[Reject]:
    for place in np.flatnonzero(first != np.arange(len(first))).tolist():
        row, kept = index.rows[place], index.rows[int(first[place])]
        yield Reject(row["subject"]["id"], row["source"], "duplicate", _DUPLICATE, kept["subject"]["id"])


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
