"""Rejected rows: the stage and the reason of each, kept beside the prepared rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def write_rejects(rejects: Iterable[Reject], sources: Mapping[str, str], file: Path) -> None:
    """Write the rejected rows in the source's order."""
    schema = pa.schema([(name, pa.string()) for name in Reject._fields])
    places = {name: place for place, name in enumerate(sources)}
    rows = [reject._asdict() for reject in sorted(rejects, key=lambda reject: places[reject.id])]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
