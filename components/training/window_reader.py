"""Reading the rows of a window in a Ray task. Imports no model library, which would take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.training.row_order import RowOrder, Window

#: Columns that training reads: of every prepared row, and of rows with features or with pixels.
_ALWAYS = ("text_tokens", "text_pooled", "time_ids", "mask", "head")
_ENCODED = ("latents", "deep", "local", "face", "other_deep", "other_local", "other_face")
_PIXELS = ("picture", "cutout", "face_box", "other_cutout", "other_face_box")
#: Columns of rows whose references were encoded at earlier blocks too.
_SHALLOW = ("shallow", "other_shallow")
#: Additional column: the index of the row in its bucket, for `row_ids`.
PLACE = "place"


@dataclass(frozen=True)
class Piece:
    """A row group of a shard."""

    file: str
    group: int
    rows: int


def read_windows(
    work: dict[str, NDArray[Any]], pieces: tuple[Piece, ...], order: RowOrder, lanes: tuple[int, ...]
) -> Iterator[dict[str, NDArray[Any]]]:
    """The micro-batches of one window, ordered by step and lane."""
    window = Window(int(work["start"][0]), int(work["stop"][0]))
    selected = {lane: order.lane_rows(window, lane) for lane in lanes}
    loaded = {
        index: load_piece(pieces[index]) for index in sorted({piece for rows in selected.values() for piece, _ in rows})
    }
    firsts = np.cumsum([0, *(piece.rows for piece in pieces)])
    for step in range(int(work["first"][0]), int(work["last"][0])):
        begin = (step - window.start) * order.batch
        for lane in lanes:
            rows = selected[lane][begin : begin + order.batch]
            names = loaded[rows[0][0]]
            columns = {name: np.stack([loaded[piece][name][row] for piece, row in rows]) for name in names}
            yield columns | {PLACE: np.array([firsts[piece] + row for piece, row in rows])}


def load_piece(piece: Piece) -> dict[str, NDArray[Any]]:
    """The columns of a piece."""
    with pq.ParquetFile(piece.file) as file:
        there = file.schema_arrow.names
        names = [*_ALWAYS, *(_PIXELS if "picture" in there else _ENCODED), *(n for n in _SHALLOW if n in there)]
        table = file.read_row_group(piece.group, columns=names)
    return {name: _array(table[name]) for name in names}


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    combined = column.combine_chunks()
    chunk = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    array: NDArray[Any] = chunk.to_numpy_ndarray()
    return array
