"""A prepared dataset without a preparation: real files, meaningless numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.manifest import MANIFEST, REJECTS, Manifest, shard_folder

#: Shapes of the miniature, but for the reference features: those are as small as can be.
_SHAPES = {
    "text_tokens": (32, 128),
    "text_pooled": (64,),
    "time_ids": (6,),
    "deep": (4, 16),
    "local": (16, 16),
    "face": (4,),
    "other_deep": (4, 16),
    "other_local": (16, 16),
    "other_face": (4,),
}


def write_prepared(
    directory: Path,
    rows: Mapping[tuple[str, str], Sequence[Mapping[str, str]] | int],
    rejects: Sequence[Mapping[str, str | None]] = (),
    config: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Manifest:
    """Write a dataset into ``directory``: by (split, bucket) its rows' text, or how many there are.

    The first number in a row's latents is its place in its bucket. ``shapes`` replace the default ones.
    """
    buckets: dict[str, dict[str, int]] = {}
    for (split, bucket), given in rows.items():
        texts = [{"id": f"{bucket}-{i}.png"} for i in range(given)] if isinstance(given, int) else given
        buckets.setdefault(split, {})[bucket] = len(texts)
        folder = shard_folder(directory, split, bucket)
        folder.mkdir(parents=True)
        half = -(-len(texts) // 2)
        for shard, start in enumerate(range(0, len(texts), max(1, half))):
            table = _table(texts[start : start + half], bucket, start, _SHAPES | dict(shapes or {}))
            pq.write_table(table, folder / f"{shard}.parquet", row_group_size=7)
    columns = pa.schema([(name, pa.string()) for name in ("id", "source", "stage", "reason", "kept")])
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rejects], columns), directory / REJECTS)
    splits = {split: sum(table.values()) for split, table in buckets.items()}
    manifest = Manifest(
        columns={},
        fingerprint="0123456789abcdef",
        rows_in=sum(splits.values()) + len(rejects),
        rows_out=sum(splits.values()),
        rows_rejected=len(rejects),
        reasons=dict(Counter(f"{row['stage']}: {row['reason']}" for row in rejects).most_common()),
        splits=splits,
        buckets=buckets,
        units=["0", "1"],
        encoders={"base": "a base", "vision": "two encoders"},
        code="0.1.0 fedcba9876543210",
        config=dict(config or {"data": {"source": "pictures"}}),
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json())
    return manifest


def _table(
    texts: Sequence[Mapping[str, str]], bucket: str, first: int, shapes: Mapping[str, tuple[int, ...]]
) -> pa.Table:
    width, height = (int(side) // 4 for side in bucket.split("x"))
    draw = np.random.default_rng(first)
    shapes = dict(shapes) | {"latents": (4, height, width), "mask": (height, width), "head": (height, width)}
    numbers = {name: draw.random((len(texts), *shape)).astype(np.float16) for name, shape in shapes.items()}
    numbers["latents"][:, 0, 0, 0] = np.arange(first, first + len(texts))
    numbers["time_ids"] = numbers["time_ids"].astype(np.float32)
    tensors = {name: pa.FixedShapeTensorArray.from_numpy_ndarray(values) for name, values in numbers.items()}
    plain = {"group": "g", "caption": "a red cat", "word": "cat", "word_from": "given"}
    words = {name: pa.array([row.get(name, plain.get(name)) for row in texts]) for name in ("id", *plain)}
    return pa.table(words | tensors)
