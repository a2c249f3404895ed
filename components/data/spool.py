"""Rows on disk in the order in which they were added, so that a source of millions of rows is not held in memory."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from components.full_disk import report_full_disk

T = TypeVar("T")

#: Bytes that are written at a time, and rows that are read at a time.
_WRITTEN, _READ = 1 << 20, 256


class Spool(Sequence[T], Generic[T]):
    """A sequence in an unnamed temporary file (in ``TMPDIR``), of which 8 bytes a row are in memory.

    It equals every sequence of the same rows.

    Args:
        rows: the first rows.
        read: makes a row of what JSON holds of it, where tuples are lists.
    """

    def __init__(self, rows: Iterable[T] = (), read: Callable[[Any], T] = lambda value: value) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the spool
        self._ends = array("Q", [0])
        self._pending = bytearray()
        self._read = read
        self.extend(rows)

    def extend(self, rows: Iterable[T]) -> None:
        """`append` each of ``rows``."""
        for row in rows:
            self.append(row)

    def append(self, row: T) -> None:
        """Add a JSON-serialisable ``row``.

        Raises:
            DataError: no space is left.
        """
        written = json.dumps(row, ensure_ascii=True).encode("ascii")
        self._pending += written
        self._ends.append(self._ends[-1] + len(written))
        if len(self._pending) >= _WRITTEN:
            self._flush()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        chosen = range(len(self))[place]
        if isinstance(chosen, range):
            return Picked(self, chosen)
        return next(self._rows(chosen, chosen + 1))

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), _READ):
            yield from self._rows(start, min(start + _READ, len(self)))

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return _shown(self)

    def _rows(self, start: int, stop: int) -> Iterator[T]:
        self._flush()
        first = self._ends[start]
        data = os.pread(self._file.fileno(), self._ends[stop] - first, first)
        for place in range(start, stop):
            yield self._read(json.loads(data[self._ends[place] - first : self._ends[place + 1] - first]))

    def _flush(self) -> None:
        with report_full_disk(Path(tempfile.gettempdir()), "TMPDIR"):
            while self._pending:
                written = self._file.write(self._pending)
                del self._pending[:written]


class Picked(Sequence[T], Generic[T]):
    """The items of a sequence at ``places``, read when they are asked for."""

    def __init__(self, items: Sequence[T], places: Sequence[int]) -> None:
        self._items, self._places = items, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        if isinstance(place, slice):
            return Picked(self._items, self._places[place])
        return self._items[int(self._places[place])]

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return _shown(self)


def _equal(rows: Sequence[Any], other: object) -> bool:
    if not isinstance(other, Sequence) or isinstance(other, str):
        return NotImplemented
    return len(rows) == len(other) and all(one == another for one, another in zip(rows, other, strict=True))


def _shown(rows: Sequence[Any]) -> str:
    return f"{type(rows).__name__}({list(rows[:3])}{', …' if len(rows) > 3 else ''})"
