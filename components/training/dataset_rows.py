"""The training rows of a prepared dataset: their files and their order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from components.config import TrainingConfig
from components.data.manifest import load_manifest, references_folder, shard_folder
from components.data.plan import Split
from components.errors import DataError
from components.training.partners import Piece, Pieces, tensor_columns
from components.training.row_order import RowOrder
from components.training.window_reader import BucketRows, load_piece

#: Threads that read footers of files.
_THREADS = 16

Batch = dict[str, Tensor]


class RowBytes(NamedTuple):
    """Bytes of a row's tensors in memory, with two references: all, and its cut-outs, which encoding replaces."""

    total: int
    cutouts: int


@dataclass(frozen=True)
class Rows:
    """The training rows of a prepared dataset: pieces and order of every bucket."""

    pieces: dict[str, Pieces]
    orders: dict[str, RowOrder]
    seed: int
    row_bytes: dict[str, RowBytes]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of every bucket."""
        return {name: order.rows for name, order in self.orders.items()}

    @cached_property
    def buckets(self) -> dict[str, BucketRows]:
        """Pieces and order of every bucket."""
        return {name: BucketRows(self.pieces[name], order) for name, order in self.orders.items()}

    @property
    def batch(self) -> int:
        """Rows of a micro-batch."""
        return next(iter(self.orders.values())).batch

    @property
    def lanes(self) -> int:
        """Micro-batches of a step."""
        return next(iter(self.orders.values())).lanes


def find_rows(directory: Path, training: TrainingConfig) -> Rows:
    """The training rows of a prepared dataset in the order of ``training``.

    Raises:
        DataError: ``directory`` is no prepared dataset, or lacks references.
    """
    root = directory.absolute()
    counts = load_manifest(root).buckets.get("train", {})
    pieces = {name: _pieces(root, "train", name) for name, number in sorted(counts.items()) if number}
    orders = {
        name: RowOrder(
            tuple(found.rows),
            training.batch_size,
            training.lanes,
            training.seed + 16 * place,  # a distance between buckets, larger than offsets of streams
            training.shuffle_rows,
        )
        for place, (name, found) in enumerate(pieces.items())
    }
    return Rows(pieces, orders, training.seed, {name: _row_bytes(found[0]) for name, found in pieces.items()})


def read_all(directory: Path, split: str) -> Batch:
    """All rows of a split with a single bucket, in memory."""
    (bucket,) = load_manifest(directory).buckets[split]
    pieces = [load_piece(piece) for piece in _pieces(directory, split, bucket)]
    return {name: torch.from_numpy(np.concatenate([piece[name] for piece in pieces])) for name in pieces[0]}


def held_out_batches(
    directory: Path, size: int, most: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[int, Batch]]:
    """At most ``most`` rows of the validation split, in batches of one bucket and at most ``size`` rows.

    Args:
        rank: of this worker among ``world``; it gets every ``world``-th batch, and reads no others.

    Yields:
        The number of the batch among all, and its rows.
    """
    batches = enumerate(_held_out_parts(directory, size, most))
    mine = ((index, *part) for index, part in batches if index % world == rank)
    for piece, parts in groupby(mine, key=lambda part: part[1]):
        columns = load_piece(piece)
        for index, _, rows in parts:
            yield index, {key: torch.from_numpy(values[rows].copy()) for key, values in columns.items()}


def _held_out_parts(directory: Path, size: int, most: int) -> Iterator[tuple[Piece, slice]]:
    """The pieces and rows of the validation batches."""
    left = most
    for piece in split_pieces(directory, "validation"):
        for start in range(0, min(piece.rows, left), size):
            stop = min(start + size, piece.rows, start + left)
            yield piece, slice(start, stop)
            left -= stop - start
        if not left:
            return


def split_pieces(directory: Path, split: Split) -> Iterator[Piece]:
    """The pieces of a split, bucket by bucket."""
    for name, number in sorted(load_manifest(directory).buckets.get(split, {}).items()):
        if number:
            yield from _pieces(directory, split, name)


def row_ids(rows: Rows, bucket: str, places: list[int]) -> list[str]:
    """The ids of rows, by their indices in the bucket."""
    ends = np.cumsum(rows.pieces[bucket].rows)
    ids = []
    for place in places:
        index = int(np.searchsorted(ends, place, side="right"))
        piece = rows.pieces[bucket][index]
        column = pq.ParquetFile(piece.file).read_row_group(piece.group, columns=["id"])["id"]
        ids.append(str(column[place - int(ends[index]) + piece.rows]))
    return ids


def _row_bytes(piece: Piece) -> RowBytes:
    """By the tensors' shapes: files are compressed."""
    files = [piece.file] if piece.references is None else [piece.file, piece.references, piece.references]
    columns = [column for file in files for column in tensor_columns(pq.read_schema(file))]
    sizes = [prod(column.type.shape) * column.type.value_type.bit_width // 8 for column in columns]
    of_cutouts = (size for column, size in zip(columns, sizes, strict=True) if column.name.endswith("cutout"))
    return RowBytes(sum(sizes), sum(of_cutouts))


def _pieces(directory: Path, split: str, bucket: str) -> Pieces:
    folder, references = shard_folder(directory, split, bucket), references_folder(directory, split)

    def described(file: Path) -> tuple[str, bool, list[int]]:
        footer = pq.read_metadata(file)
        referring = "reference" in footer.schema.names
        if referring and not (of_unit := references / file.name).is_file():
            raise DataError(f"training.dataset: {of_unit} is missing: copy it too, or prepare the dataset again")
        return file.name, referring, [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]

    with ThreadPoolExecutor(_THREADS) as threads:
        return Pieces(folder, references, threads.map(described, sorted(folder.glob("*.parquet"))))
