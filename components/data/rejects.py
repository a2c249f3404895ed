"""Rejected rows: the stage and the reason of each, kept beside the prepared rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.spool import Picked, Spool

REJECTS = "rejects.parquet"
#: Rows that are written at a time.
_WRITTEN = 10_000


class Reject(NamedTuple):
    """A rejected row: the stage and the reason; for a near-duplicate also the accepted row."""

    id: str
    source: str
    stage: str
    reason: str
    kept: str | None = None


class Rejects(Spool[Reject]):
    """Rejected rows on disk, in the order in which they were added."""

    def __init__(self, rows: Iterable[Reject] = ()) -> None:
        super().__init__(rows, read=Reject._make)


@dataclass(frozen=True)
class PassedOver:
    """Files of a source that are no rows: their number, and the first names."""

    count: int
    names: tuple[str, ...]


def write_rejects(rejects: Rejects, place: Callable[[str], int | None], file: Path) -> None:
    """Write the rejected rows in the source's order, then those without a ``place``: they are no rows of it."""
    places = (place(reject.id) for reject in rejects)
    last = np.iinfo(np.int64).max
    keys = np.fromiter((last if at is None else at for at in places), np.int64, len(rejects))
    ordered = Picked(rejects, np.argsort(keys, kind="stable").tolist())
    schema = pa.schema([(name, pa.string()) for name in Reject._fields])
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(ordered), _WRITTEN):
            rows = [reject._asdict() for reject in ordered[start : start + _WRITTEN]]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
