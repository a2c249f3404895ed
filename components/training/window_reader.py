"""Reading the rows of a part of a window in a Ray task. Imports no model library, which would take seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.training.partners import Columns, Partners, Piece, References, as_array, read_references
from components.training.row_order import OrderedRow, RowOrder, Window

#: Columns that training reads of every prepared row.
_ALWAYS = ("text_tokens", "text_pooled", "time_ids", "mask", "head")
#: Additional columns: the index of the row in its bucket, for `row_ids`; step and lane.
PLACE, STEP, LANE = "place", "step", "lane"


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
    loaded = load_rows({bucket.pieces[index]: wanted[index] for index in sorted(wanted)})
    firsts = np.cumsum([0, *(piece.rows for piece in bucket.pieces)])
    steps = list(work["steps"][0])
    for start in range(0, end - begin, order.batch):
        step = steps[start // order.batch]
        for lane in lanes:
            rows = selected[lane][start : start + order.batch]
            columns = stack([loaded[bucket.pieces[each.piece]].row(each) for each in rows])
            places = np.array([firsts[each.piece] + each.row for each in rows])
            yield columns | {PLACE: places, STEP: np.full(len(rows), step), LANE: np.full(len(rows), lane)}


def load_rows(wanted: Mapping[Piece, Sequence[OrderedRow]]) -> dict[Piece, LoadedRows]:
    """Some rows of several pieces, with their references, each of which is read once."""
    partners = {piece: Partners.read(piece) for piece in wanted}
    numbers: dict[str | Piece, set[int]] = {}
    for piece, rows in wanted.items():
        shown = {number for each in rows for number in _shown(partners[piece], each)}
        numbers.setdefault(piece.source, set()).update(shown)
    references = {source: read_references(source, some) for source, some in numbers.items()}
    return {
        piece: LoadedRows(piece, {each.row for each in rows}, partners[piece], references[piece.source])
        for piece, rows in wanted.items()
    }


def load_piece(piece: Piece) -> Columns:
    """The columns of a piece: its rows with their references, as in the first epoch."""
    rows = [OrderedRow(0, row, 0) for row in range(piece.rows)]
    loaded = load_rows({piece: rows})[piece]
    return stack([loaded.row(each) for each in rows])


def stack(rows: Sequence[Columns]) -> Columns:
    """Rows as columns."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class LoadedRows:
    """Some rows of a piece with their references, without the memory of the others."""

    def __init__(self, piece: Piece, rows: Collection[int], partners: Partners, references: References) -> None:
        self._partners, self._references = partners, references
        self._at = {row: index for index, row in enumerate(sorted(rows))}
        whole = len(self._at) == piece.rows
        self._columns = {name: values if whole else values[list(self._at)] for name, values in _read(piece).items()}

    def row(self, ordered: OrderedRow) -> Columns:
        """A row: its own columns, its own reference, and, as ``other_...``, the one of its epoch."""
        own, other = (self._references[number] for number in _shown(self._partners, ordered))
        columns = {name: values[self._at[ordered.row]] for name, values in self._columns.items()}
        return columns | own | {f"other_{name}": value for name, value in other.items()}


def _shown(partners: Partners, ordered: OrderedRow) -> tuple[int, int]:
    return partners.own[ordered.row], partners.of(ordered.row, ordered.epoch)


def _read(piece: Piece) -> Columns:
    """The columns of the rows of ``piece``, without references."""
    with pq.ParquetFile(piece.file) as file:
        names = [*_ALWAYS, "picture" if "picture" in file.schema_arrow.names else "latents"]
        table = file.read_row_group(piece.group, columns=names)
    return {name: as_array(table[name]) for name in names}
