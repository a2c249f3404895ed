"""Reading the rows of a part of a window in a Ray task. Imports no model library, which would take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.training.row_order import RowOrder, Window

#: Columns that training reads: of every prepared row, and of references with features or with pixels.
_ALWAYS = ("text_tokens", "text_pooled", "time_ids", "mask", "head")
_FEATURES = ("deep", "local", "face", "other_deep", "other_local", "other_face")
_REFERENCES = ("cutout", "face_box", "other_cutout", "other_face_box")
#: Columns of rows whose references were encoded at earlier blocks too.
_SHALLOW = ("shallow", "other_shallow")
#: Additional columns: the index of the row in its bucket, for `row_ids`; step and lane.
PLACE, STEP, LANE = "place", "step", "lane"

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Piece:
    """A row group of a shard."""

    file: str
    group: int
    rows: int


@dataclass(frozen=True)
class BucketRows:
    """The pieces of a bucket, and the order of their rows."""

    pieces: tuple[Piece, ...]
    order: RowOrder


def read_windows(
    work: Mapping[str, NDArray[Any]], buckets: Mapping[str, BucketRows], lanes: tuple[int, ...]
) -> Iterator[Columns]:
    """The micro-batches of one part of a window, ordered by step and lane.

    Args:
        work: one row: ``bucket``, ``start`` and ``stop`` of the window, ``first`` and ``last`` (exclusive) of its
            steps to read, and their ``steps`` among all buckets. Only the rows of these steps are kept in memory.
    """
    bucket = buckets[str(work["bucket"][0])]
    order, window = bucket.order, Window(int(work["start"][0]), int(work["stop"][0]))
    begin, end = (order.batch * (int(work[name][0]) - window.start) for name in ("first", "last"))
    selected = {lane: order.lane_rows(window, lane)[begin:end] for lane in lanes}
    wanted: dict[int, list[int]] = {}
    for rows in selected.values():
        for piece, row in rows:
            wanted.setdefault(piece, []).append(row)
    loaded = {index: _LoadedRows(bucket.pieces[index], wanted[index]) for index in sorted(wanted)}
    firsts = np.cumsum([0, *(piece.rows for piece in bucket.pieces)])
    steps = list(work["steps"][0])
    for start in range(0, end - begin, order.batch):
        step = steps[start // order.batch]
        for lane in lanes:
            rows = selected[lane][start : start + order.batch]
            names = loaded[rows[0][0]].names
            columns = {name: np.stack([loaded[piece].value(name, row) for piece, row in rows]) for name in names}
            places = np.array([firsts[piece] + row for piece, row in rows])
            yield columns | {PLACE: places, STEP: np.full(len(rows), step), LANE: np.full(len(rows), lane)}


class _LoadedRows:
    """Some rows of a piece, without the memory of the others."""

    def __init__(self, piece: Piece, rows: list[int]) -> None:
        self._at = {row: index for index, row in enumerate(sorted(set(rows)))}
        columns = load_piece(piece)
        kept = list(self._at)
        whole = len(kept) == piece.rows
        self._columns = {name: values if whole else values[kept] for name, values in columns.items()}

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def value(self, name: str, row: int) -> NDArray[Any]:
        found: NDArray[Any] = self._columns[name][self._at[row]]
        return found


def load_piece(piece: Piece) -> Columns:
    """The columns of a piece."""
    with pq.ParquetFile(piece.file) as file:
        there = file.schema_arrow.names
        names = [*_ALWAYS, "picture" if "picture" in there else "latents"]
        names += [*(_REFERENCES if "cutout" in there else _FEATURES), *(name for name in _SHALLOW if name in there)]
        table = file.read_row_group(piece.group, columns=names)
    return {name: _array(table[name]) for name in names}


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    combined = column.combine_chunks()
    chunk = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    array: NDArray[Any] = chunk.to_numpy_ndarray()
    return array
