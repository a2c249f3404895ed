"""Reading the rows of a part of a window in a Ray task. Imports no model library, which would take seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

    pieces: Sequence[Piece]
    order: RowOrder

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """The index of the first row of each piece in the bucket."""
        return np.cumsum([0, *self.order.pieces], dtype=np.int64)


def window_work(
    bucket: BucketRows, window: Window, first: int, last: int, steps: Sequence[int], lanes: Sequence[int]
) -> dict[str, Any]:
    """What `read_windows` reads: the rows of ``lanes`` in the steps ``first`` to ``last`` (exclusive) of ``window``.

    A dataset may have millions of pieces: only those of these rows are in it.

    Args:
        steps: the numbers of these steps among all buckets.
    """
    order = bucket.order
    begin, end = (order.batch * (step - window.start) for step in (first, last))
    rows = [row for lane in lanes for row in order.lane_rows(window, lane)[begin:end]]
    wanted = sorted({row.piece for row in rows})
    at = {piece: index for index, piece in enumerate(wanted)}
    pieces = [bucket.pieces[index] for index in wanted]
    return {
        "files": [piece.file for piece in pieces],
        "groups": [piece.group for piece in pieces],
        "sizes": [piece.rows for piece in pieces],
        "references": [piece.references or "" for piece in pieces],
        "firsts": bucket.firsts[wanted].tolist(),
        "piece": [at[row.piece] for row in rows],
        "row": [row.row for row in rows],
        "epoch": [row.epoch for row in rows],
        "steps": list(steps),
        "lanes": list(lanes),
    }


def read_windows(work: Mapping[str, NDArray[Any]]) -> Iterator[Columns]:
    """The micro-batches of a `window_work`, ordered by step and lane; only their rows are kept in memory.

    Args:
        work: as columns of one row.
    """
    given = {name: list(values[0]) for name, values in work.items()}
    described = zip(*(given[name] for name in ("files", "groups", "sizes", "references")), strict=True)
    pieces = [Piece(str(file), int(group), int(rows), str(of) or None) for file, group, rows, of in described]
    rows = [OrderedRow(*map(int, row)) for row in zip(given["piece"], given["row"], given["epoch"], strict=True)]
    wanted: dict[int, list[OrderedRow]] = {}
    for row in rows:
        wanted.setdefault(row.piece, []).append(row)
    loaded = load_rows({pieces[index]: wanted[index] for index in sorted(wanted)})
    steps, lanes = given["steps"], given["lanes"]
    size = len(rows) // (len(steps) * len(lanes))
    for number, step in enumerate(steps):
        for index, lane in enumerate(lanes):
            start = (index * len(steps) + number) * size
            batch = rows[start : start + size]
            columns = stack([loaded[pieces[each.piece]].row(each) for each in batch])
            places = np.array([given["firsts"][each.piece] + each.row for each in batch])
            yield columns | {PLACE: places, STEP: np.full(size, step), LANE: np.full(size, lane)}


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
