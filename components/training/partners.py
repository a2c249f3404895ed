"""References of training rows: which picture stands for a row in an epoch, and what is stored of it.

Datasets of schema version 3 store the references of a row with the row, so that each is its row group's alone.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
#: What is stored of each reference, by its number in the source.
References = Mapping[int, Columns]

#: Columns of references in rows of version 3: features or pixels, and features at earlier blocks.
_PAIRED = ("deep", "local", "face", "shallow", "cutout", "face_box")
_OTHER = "other_"


@dataclass(frozen=True)
class Piece:
    """A row group of a shard.

    Args:
        references: the file of its references; None if its rows hold them (version 3).
    """

    file: str
    group: int
    rows: int
    references: str | None

    @property
    def source(self) -> str | Piece:
        """What the numbers of its references refer to."""
        return self.references or self


class Pieces(Sequence[Piece]):
    """The row groups of the shards of a bucket: 4 bytes for each, and about 90 for each shard's name.

    A dataset of millions of rows has hundreds of thousands, and every worker holds them.

    Args:
        folder: of the shards.
        references: of the files of their references.
        shards: name, whether it has a file of references (of the same name), and the rows of its row groups.
    """

    def __init__(self, folder: Path, references: Path, shards: Iterable[tuple[str, bool, Sequence[int]]]) -> None:
        self._folder, self._references = str(folder), str(references)
        self._names: list[str] = []
        self._referring = bytearray()
        self._firsts = array("Q")
        #: Rows of every piece.
        self.rows = array("I")
        for name, referring, rows in shards:
            self._names.append(name)
            self._referring.append(referring)
            self._firsts.append(len(self.rows))
            self.rows.extend(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Piece: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Piece]: ...
    def __getitem__(self, place: int | slice) -> Piece | Sequence[Piece]:
        chosen = range(len(self))[place]
        return tuple(map(self._piece, chosen)) if isinstance(chosen, range) else self._piece(chosen)

    def _piece(self, place: int) -> Piece:
        shard = bisect_right(self._firsts, place) - 1
        name = self._names[shard]
        references = os.path.join(self._references, name) if self._referring[shard] else None
        return Piece(os.path.join(self._folder, name), place - self._firsts[shard], self.rows[place], references)


@dataclass(frozen=True)
class Partners:
    """For each row of a piece, the number of its own reference, and those of other pictures of its subject.

    A row's other view is one of them, in each epoch the next, so that it is shown with every one.
    """

    own: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]

    @classmethod
    def read(cls, piece: Piece) -> Partners:
        """The references of the rows of ``piece``, from its numbers and texts alone."""
        with pq.ParquetFile(piece.file) as file:
            if piece.references is None:
                return _paired(file.read_row_group(piece.group, columns=["id", "group", "other_id"]))
            table = file.read_row_group(piece.group, columns=["reference", "others"])
        return cls(tuple(table["reference"].to_pylist()), tuple(map(tuple, table["others"].to_pylist())))

    def of(self, row: int, epoch: int) -> int:
        """The reference that shows the other view of ``row`` in ``epoch``: its own if there is no other picture."""
        others = self.others[row]
        return others[(epoch + row) % len(others)] if others else self.own[row]


def read_references(source: str | Piece, wanted: Collection[int]) -> References:
    """The references of ``source`` with the numbers ``wanted``. Other ones take no memory."""
    if isinstance(source, Piece):
        return _read_paired(source, wanted)
    found: dict[int, Columns] = {}
    with pq.ParquetFile(source) as file:
        names = [column.name for column in tensor_columns(file.schema_arrow)]
        first = 0
        numbers = file.read(columns=["reference"])["reference"].to_pylist()
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            rows = {numbers[first + row]: row for row in range(size) if numbers[first + row] in wanted}
            if rows:
                table = file.read_row_group(group, columns=names)
                found |= _chosen({name: as_array(table[name]) for name in names}, rows, size)
            first += size
    return found


def tensor_columns(schema: pa.Schema) -> list[pa.Field]:
    """The columns that are tensors."""
    return [column for column in schema if isinstance(column.type, pa.FixedShapeTensorType)]


def as_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of tensors as one array, rows first."""
    combined = column.combine_chunks()
    chunk = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    array: NDArray[Any] = chunk.to_numpy_ndarray()
    return array


def _chosen(columns: Columns, rows: Mapping[int, int], size: int) -> dict[int, Columns]:
    """The references of ``rows`` (number -> row) of a row group of ``size``, without the memory of the others."""
    if len(rows) < size:
        kept = list(rows.values())
        columns = {name: values[kept] for name, values in columns.items()}
        rows = {number: place for place, number in enumerate(rows)}
    return {number: {name: values[row] for name, values in columns.items()} for number, row in rows.items()}


def _paired(table: pa.Table) -> Partners:
    """Of rows of version 3: a row's own reference has its number, the stored one of another picture that below 0."""
    ids, groups, others = (table[name].to_pylist() for name in ("id", "group", "other_id"))
    pictures = [_picture(name) for name in ids]
    found = []
    for row, group in enumerate(groups):
        same = tuple(at for at, name in enumerate(groups) if name == group and pictures[at] != pictures[row])
        # A row whose stored reference is none of them keeps it: its source names its references.
        found.append(same if _picture(others[row]) in {pictures[at] for at in same} else (_stored(row),))
    return Partners(tuple(range(len(ids))), tuple(found))


def _stored(row: int) -> int:
    return -1 - row


def _read_paired(piece: Piece, wanted: Collection[int]) -> References:
    with pq.ParquetFile(piece.file) as file:
        there = set(file.schema_arrow.names)
        names = [name for name in _PAIRED if name in there]
        table = file.read_row_group(piece.group, columns=[*names, *(_OTHER + name for name in names)])
    own = {row: row for row in wanted if row >= 0}
    other = {row: _stored(row) for row in wanted if row < 0}
    return {
        **_chosen({name: as_array(table[name]) for name in names}, own, piece.rows),
        **_chosen({name: as_array(table[_OTHER + name]) for name in names}, other, piece.rows),
    }


def _picture(name: str) -> str:
    """The picture of a row's id: further captions of it have the ids ``<picture>#2`` …"""
    picture, mark, number = name.rpartition("#")
    return picture if mark and number.isdigit() else name
