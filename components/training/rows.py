"""The rows of a prepared dataset that a training reads: where they lie, and the order they are taken in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.config import TrainingConfig
from components.data.manifest import load_manifest, shard_folder
from components.training.order import Order

#: Columns that training reads: those of every prepared row, and those of rows that are encoded or hold pixels.
_ALWAYS = ("text_tokens", "text_pooled", "time_ids", "mask", "head")
_ENCODED = ("latents", "deep", "local", "face", "other_deep", "other_local", "other_face")
_PIXELS = ("picture", "cutout", "face_box", "other_cutout", "other_face_box")
#: Added to them: the row's place in its bucket, by which `row_ids` finds it again.
PLACE = "place"
#: Files whose footers are read at the same time.
_THREADS = 16

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Piece:
    """A row group of a shard."""

    file: str
    group: int
    rows: int


@dataclass(frozen=True)
class Rows:
    """The training rows of a prepared dataset: the pieces of every bucket, and the order they are taken in."""

    pieces: dict[str, tuple[Piece, ...]]
    orders: dict[str, Order]
    seed: int

    @property
    def counts(self) -> dict[str, int]:
        """Rows of every bucket."""
        return {name: order.rows for name, order in self.orders.items()}

    @property
    def lanes(self) -> int:
        """Micro-batches of a step."""
        return next(iter(self.orders.values())).lanes


def find_rows(directory: Path, training: TrainingConfig) -> Rows:
    """The training rows of a prepared dataset, in the order that ``training`` takes them.

    Raises:
        DataError: ``directory`` is no prepared dataset.
    """
    root = directory.absolute()
    counts = load_manifest(root).buckets.get("train", {})
    pieces = {name: _pieces(shard_folder(root, "train", name)) for name, number in sorted(counts.items()) if number}
    orders = {
        name: Order(
            tuple(piece.rows for piece in found),
            training.batch_size,
            training.lanes,
            training.seed + 16 * place,  # buckets differ; the streams of one seed are told apart by less
            training.shuffle_rows,
        )
        for place, (name, found) in enumerate(pieces.items())
    }
    return Rows(pieces, orders, training.seed)


def read_all(directory: Path, split: str) -> Batch:
    """All rows of a split, of which there must be one bucket, in memory."""
    (bucket,) = load_manifest(directory).buckets[split]
    pieces = [load_piece(piece) for piece in _pieces(shard_folder(directory, split, bucket))]
    return {name: torch.from_numpy(np.concatenate([piece[name] for piece in pieces])) for name in pieces[0]}


def held_out_batches(directory: Path, size: int, most: int) -> Iterator[Batch]:
    """The first ``most`` rows of the validation split at most, in batches of one bucket and at most ``size`` rows."""
    left = most
    for name, number in sorted(load_manifest(directory).buckets.get("validation", {}).items()):
        for piece in _pieces(shard_folder(directory, "validation", name)) if number else ():
            columns = load_piece(piece)
            for start in range(0, min(piece.rows, left), size):
                stop = min(start + size, piece.rows, start + left)
                yield {key: torch.from_numpy(values[start:stop].copy()) for key, values in columns.items()}
                left -= stop - start


def row_ids(rows: Rows, bucket: str, places: list[int]) -> list[str]:
    """The ids of rows, by their places in their bucket."""
    ends = np.cumsum([piece.rows for piece in rows.pieces[bucket]])
    ids = []
    for place in places:
        index = int(np.searchsorted(ends, place, side="right"))
        piece = rows.pieces[bucket][index]
        column = pq.ParquetFile(piece.file).read_row_group(piece.group, columns=["id"])["id"]
        ids.append(str(column[place - int(ends[index]) + piece.rows]))
    return ids


def load_piece(piece: Piece) -> dict[str, NDArray[Any]]:
    """The columns of a piece."""
    names = columns_of(piece)
    table = pq.ParquetFile(piece.file).read_row_group(piece.group, columns=names)
    return {name: _array(table[name]) for name in names}


def columns_of(piece: Piece) -> list[str]:
    """The columns of ``piece`` that training reads."""
    held = set(pq.read_schema(piece.file).names)
    return [*_ALWAYS, *(_PIXELS if "picture" in held else _ENCODED)]


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    combined = column.combine_chunks()
    chunk = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    array: NDArray[Any] = chunk.to_numpy_ndarray()
    return array


def _pieces(folder: Path) -> tuple[Piece, ...]:
    def of(file: Path) -> list[Piece]:
        footer = pq.read_metadata(file)
        return [Piece(str(file), group, footer.row_group(group).num_rows) for group in range(footer.num_row_groups)]

    with ThreadPoolExecutor(_THREADS) as threads:
        return tuple(piece for found in threads.map(of, sorted(folder.glob("*.parquet"))) for piece in found)
