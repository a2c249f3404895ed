"""Removal of rows from the files of a unit, with the references that no other row shows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ID, _OWN, _OTHERS = "id", "reference", "others"


@dataclass(frozen=True)
class RemovedRows:
    """The rows of one unit to remove, and the references of all its rows.

    Args:
        ids: of the rows, among others.
        shown: the references that only these rows have as their own: other rows show them only if they have no others.
        used: the references that other rows show.
    """

    ids: frozenset[str]
    shown: frozenset[int]
    used: frozenset[int]

    @classmethod
    def of(cls, shards: Iterable[Path], ids: Collection[str]) -> RemovedRows:
        """Those of the unit whose shards are ``shards``."""
        rows = [row for shard in shards for row in pq.read_table(shard, columns=[_ID, _OWN, _OTHERS]).to_pylist()]
        kept = [row for row in rows if row[_ID] not in ids]
        own = {row[_OWN] for row in kept}
        shown = frozenset(row[_OWN] for row in rows) - own
        used = own.union(*(_others(row[_OTHERS], shown) for row in kept))
        return cls(frozenset(ids), shown, frozenset(used))

    def from_shard(self, shard: Path) -> Iterator[pa.Table]:
        """The other rows of ``shard``, a row group at a time."""
        names = pa.array(list(self.ids), pa.string())
        for table in _row_groups(shard):
            kept = table.filter(pc.invert(pc.is_in(table[_ID], names)))
            if len(kept):
                column = kept.schema.get_field_index(_OTHERS)
                others = [_others(each, self.shown) for each in kept[_OTHERS].to_pylist()]
                yield kept.set_column(
                    column, kept.schema.field(column), pa.array(others, kept.schema.field(column).type)
                )

    def from_references(self, file: Path) -> Iterator[pa.Table]:
        """The references in ``file`` that are still shown, a row group at a time."""
        numbers = pa.array(sorted(self.used), pa.int32())
        for table in _row_groups(file):
            kept = table.filter(pc.is_in(table[_OWN], numbers))
            if len(kept):
                yield kept


def _others(others: list[int], shown: Collection[int]) -> list[int]:
    return [at for at in others if at not in shown] or others


def _row_groups(file: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(file) as rows:
        for group in range(rows.num_row_groups):
            yield rows.read_row_group(group)
