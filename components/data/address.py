"""Addresses of pictures below the root of `SourceFiles`.

===========================  =======================================================================================
``cats/1.jpg``               a file: its path from the root, with forward slashes
``a.tar!1.jpg@512+20481``    a member of a tar: its name, the byte it begins at, and its size in bytes
``a.parquet!image.bytes@7``  a cell of a parquet file: its column (after a dot, the field of a struct) and its row
``a.arrow!image@4096:7``     a cell of an Arrow stream: its column, the byte its record batch begins at, its row there
===========================  =======================================================================================

Everything up to the first ``!`` is the file. A file whose path has the form of a member is rejected, so addresses are
unambiguous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MEMBER = re.compile(
    r"(?P<file>[^!]+)!(?P<name>.+)@(?:(?P<start>\d+)\+(?P<size>\d+)|(?:(?P<batch>\d+):)?(?P<row>\d+))", re.DOTALL
)


@dataclass(frozen=True)
class Span:
    """``size`` bytes of a file, starting at byte ``start``."""

    name: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.name}@{self.start}+{self.size}"


@dataclass(frozen=True)
class Cell:
    """One value of a table: of a parquet file, or of the Arrow record batch that begins at byte ``batch``."""

    column: str
    row: int
    batch: int | None = None

    def __str__(self) -> str:
        return f"{self.column}@{self.row}" if self.batch is None else f"{self.column}@{self.batch}:{self.row}"


def parse(address: str) -> tuple[str, Span | Cell | None]:
    """The file of ``address``, and the member of it (None: the file itself)."""
    found = _MEMBER.fullmatch(address)
    if found is None:
        return address, None
    if found["start"] is not None:
        return found["file"], Span(found["name"], int(found["start"]), int(found["size"]))
    batch = None if found["batch"] is None else int(found["batch"])
    return found["file"], Cell(found["name"], int(found["row"]), batch)


def member(file: str, place: Span | Cell) -> str:
    """The address of ``place`` in ``file``."""
    return f"{file}!{place}"
