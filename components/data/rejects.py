"""Rejected rows: the stage and the reason of each, kept beside the prepared rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

REJECTS = "rejects.parquet"


class Reject(NamedTuple):
    """A rejected row: the stage and the reason; for a near-duplicate also the accepted row."""

    id: str
    source: str
    stage: str
    reason: str
    kept: str | None = None


@dataclass(frozen=True)
class PassedOver:
    """Files of a source that are no rows: their number, and the first names."""

    count: int
    names: tuple[str, ...]


def write_rejects(rejects: Sequence[Reject], place: Callable[[str], int | None], file: Path) -> None:
    """Write the rejected rows in the source's order, then those without a ``place``: they are no rows of it."""
    schema = pa.schema([(name, pa.string()) for name in Reject._fields])
    places = {reject.id: place(reject.id) for reject in rejects}
    ordered = sorted(rejects, key=lambda reject: (places[reject.id] is None, places[reject.id] or 0))
    rows = [reject._asdict() for reject in ordered]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
