"""A summary of a prepared dataset of any size: its manifest, and sample rows of every kind.

Rows are sampled by a hash of their ids, so the summary is deterministic.
"""

from __future__ import annotations

import heapq
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet as pq

from components.data.manifest import SHARDS, Manifest, load_manifest, references_folder
from components.data.rejects import REJECTS
from components.data.schema import SCHEMA_VERSION
from components.errors import DataError
from components.model.words import find_word

#: Maximum numbers of accepted rows, reasons, rows of each reason, and pairs of duplicates.
ROWS, REASONS, ROWS_OF_REASON, DUPLICATES = 24, 12, 4, 12

T = TypeVar("T")


@dataclass(frozen=True)
class AcceptedRow:
    """A row of the dataset; ``word_from`` is the origin of its word, see `components.data.schema`."""

    id: str
    caption: str
    word: str
    word_from: str
    split: str
    bucket: str


@dataclass(frozen=True)
class RejectedRow:
    """A rejected row; ``kept`` is the picture that a duplicate resembles."""

    id: str
    source: str
    kept: str | None


@dataclass(frozen=True)
class Reason:
    """The reason of ``count`` rejects, and some of the rows."""

    stage: str
    reason: str
    count: int
    rows: list[RejectedRow]


@dataclass(frozen=True)
class Summary:
    """A summary: ``rows`` by bucket, ``reasons`` and ``duplicates`` most frequent first."""

    manifest: Manifest
    rows: list[AcceptedRow]
    reasons: list[Reason]
    duplicates: list[RejectedRow]

    @property
    def buckets(self) -> dict[str, dict[str, int]]:
        """Bucket -> split -> rows, wide buckets last."""
        tables = self.manifest.buckets
        names = sorted({name for table in tables.values() for name in table}, key=_aspect)
        return {name: {split: table.get(name, 0) for split, table in tables.items()} for name in names}

    @property
    def fullest(self) -> int:
        """Rows of the largest bucket."""
        return max((sum(rows.values()) for rows in self.buckets.values()), default=0)


def summarize(directory: Path) -> Summary:
    """Read the summary of the prepared dataset in ``directory``; of its shards, only text columns.

    Raises:
        DataError: ``directory`` is no prepared dataset, or a file of it is missing or damaged.
    """
    manifest = load_manifest(directory)
    try:
        rows = _accepted_rows(directory / SHARDS)
        if manifest.schema_version == SCHEMA_VERSION:
            _check_references(directory)
        reasons, duplicates = _refused(directory / REJECTS, manifest.reasons)
    except (OSError, KeyError, ValueError) as error:  # Arrow's errors are OSError or ValueError
        raise DataError(f"{directory} is damaged ({error}): prepare the dataset again") from None
    return Summary(manifest, rows, reasons, duplicates)


def size_of(bucket: str) -> tuple[int, int]:
    """Width and height of a bucket's pictures in pixels."""
    width, _, height = bucket.partition("x")
    return int(width), int(height)


def marked(caption: str, word: str) -> list[tuple[str, bool]]:
    """``caption`` split into pieces, and whether each is the target word."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for start, stop in find_word(caption, word):
        pieces += [(caption[end:start], False), (caption[start:stop], True)]
        end = stop
    return [piece for piece in [*pieces, (caption[end:], False)] if piece[0]]


def _accepted_rows(shards: Path) -> list[AcceptedRow]:
    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(shards.glob("split=*/bucket=*/*.parquet")):
        files[file.parent.name.removeprefix("bucket=")].append(file)
    names = sorted(sorted(files, key=lambda name: (-len(files[name]), name))[:ROWS], key=_aspect)
    each = max(1, ROWS // max(1, len(names)))
    return [row for name in names for row in _few(_rows(files[name], name), each)]


def _check_references(directory: Path) -> None:
    """Read the footers of the references that belong to the shards.

    Raises:
        OSError: one is missing.
        ValueError: one is damaged.
    """
    shards = (directory / SHARDS).glob("split=*/bucket=*/*.parquet")
    for split, name in sorted({(file.parent.parent.name.removeprefix("split="), file.name) for file in shards}):
        pq.read_metadata(references_folder(directory, split) / name)


def _rows(files: Iterable[Path], bucket: str) -> Iterator[AcceptedRow]:
    for file in files:
        split = file.parent.parent.name.removeprefix("split=")
        with pq.ParquetFile(file) as shard:
            for batch in shard.iter_batches(columns=["id", "caption", "word", "word_from"]):
                for row in batch.to_pylist():
                    yield AcceptedRow(**row, split=split, bucket=bucket)


def _refused(file: Path, counts: Mapping[str, int]) -> tuple[list[Reason], list[RejectedRow]]:
    """Sample rows of the most frequent reasons, and pairs of duplicates; the file is read in batches."""
    shown = list(counts)[:REASONS]
    rows: dict[str, list[RejectedRow]] = defaultdict(list)
    pairs: list[RejectedRow] = []
    stages: dict[str, tuple[str, str]] = {}
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches():
            found: dict[str, list[RejectedRow]] = defaultdict(list)
            for row in batch.to_pylist():
                name = f"{row['stage']}: {row['reason']}"
                stages[name] = row["stage"], row["reason"]
                found[name].append(RejectedRow(row["id"], row["source"], row.get("kept")))
            for name in found.keys() & set(shown):
                rows[name] = _few([*rows[name], *found[name]], ROWS_OF_REASON)
            duplicates = [row for group in found.values() for row in group if row.kept]
            pairs = _few([*pairs, *duplicates], DUPLICATES)
    return [Reason(*stages[name], counts[name], rows[name]) for name in shown], pairs


def _few(rows: Iterable[T], number: int) -> list[T]:
    """The ``number`` rows with the smallest hashes of ids."""
    return heapq.nsmallest(number, rows, key=lambda row: (zlib.crc32(row.id.encode()), row.id))  # type: ignore[attr-defined]


def _aspect(bucket: str) -> tuple[float, str]:
    width, height = size_of(bucket)
    return width / height, bucket
