"""Reading the rows of a part of a window in a Ray task. Imports no model library, which would take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.training.row_order import OrderedRow, RowOrder, Window

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
    wanted: dict[int, list[OrderedRow]] = {}
    for rows in selected.values():
        for ordered in rows:
            wanted.setdefault(ordered.piece, []).append(ordered)
    loaded = {index: _LoadedRows(bucket.pieces[index], wanted[index]) for index in sorted(wanted)}
    firsts = np.cumsum([0, *(piece.rows for piece in bucket.pieces)])
    steps = list(work["steps"][0])
    for start in range(0, end - begin, order.batch):
        step = steps[start // order.batch]
        for lane in lanes:
            rows = selected[lane][start : start + order.batch]
            names = loaded[rows[0].piece].names
            columns = {name: np.stack([loaded[each.piece].value(name, each) for each in rows]) for name in names}
            places = np.array([firsts[each.piece] + each.row for each in rows])
            yield columns | {PLACE: places, STEP: np.full(len(rows), step), LANE: np.full(len(rows), lane)}


class _LoadedRows:
    """Some rows of a piece with their partners, without the memory of the others."""

    def __init__(self, piece: Piece, rows: Sequence[OrderedRow]) -> None:
        self._partners = Partners.read(piece)
        needed = {each.row for each in rows} | {self._partners.of(each.row, each.epoch) for each in rows}
        kept = sorted(row for row in needed if row is not None)
        self._at = {row: index for index, row in enumerate(kept)}
        whole = len(kept) == piece.rows
        self._columns = {name: values if whole else values[kept] for name, values in load_piece(piece).items()}

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def value(self, name: str, ordered: OrderedRow) -> NDArray[Any]:
        own, row = name.removeprefix("other_"), ordered.row
        if own != name and (partner := self._partners.of(ordered.row, ordered.epoch)) is not None:
            name, row = own, partner
        found: NDArray[Any] = self._columns[name][self._at[row]]
        return found


@dataclass(frozen=True)
class Partners:
    """For each row of a piece, the other rows of it that show its subject in another picture.

    A row's other view is one of them, in each epoch the next. So it is shown with every one, though one is stored.
    """

    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def read(cls, piece: Piece) -> Partners:
        """The partners in ``piece``, from its texts alone."""
        with pq.ParquetFile(piece.file) as file:
            if "other_id" not in file.schema_arrow.names:
                return cls(((),) * piece.rows)
            table = file.read_row_group(piece.group, columns=["id", "group", "other_id"])
        ids, groups, others = (table[name].to_pylist() for name in ("id", "group", "other_id"))
        pictures = [_picture(name) for name in ids]
        found = []
        for row, group in enumerate(groups):
            same = [at for at, name in enumerate(groups) if name == group and pictures[at] != pictures[row]]
            # A row whose stored reference is none of them keeps it: its source names its references.
            found.append(tuple(same) if _picture(others[row]) in {pictures[at] for at in same} else ())
        return cls(tuple(found))

    def of(self, row: int, epoch: int) -> int | None:
        """The row whose picture is the other view of ``row`` in ``epoch``, each in turn; None for the stored one."""
        rows = self.rows[row]
        return rows[(epoch + row) % len(rows)] if rows else None


def _picture(name: str) -> str:
    """The picture of a row's id: further captions of it have the ids ``<picture>#2`` …"""
    picture, mark, number = name.rpartition("#")
    return picture if mark and number.isdigit() else name


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
