"""Curation and encoding as Ray Data runs them: rows that cannot be used go to the ledger, the others go on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle

from components.config import ModelConfig, VisionConfig
from components.data.curate import CurateSettings, curate
from components.data.schema import Reject
from components.errors import ArtifactError
from components.progress import quiet_libraries

Batch = dict[str, NDArray[Any]]
logger = logging.getLogger(__name__)


def curate_batch(batch: Batch, settings: CurateSettings, ledger: ActorHandle[Any]) -> Iterator[Batch]:
    """Turn batches of jobs (JSON in column ``jobs``) into blocks of curated columns."""
    for jobs in batch["jobs"]:
        columns, rejects = curate(json.loads(jobs), settings)
        if rejects:
            ray.get(ledger.rejected.remote(rejects))
        if columns:
            yield columns


class EncodeBatch:
    """Holds an `Encoder` and maps curated blocks to prepared ones."""

    def __init__(self, model: ModelConfig, vision: VisionConfig, ledger: ActorHandle[Any]) -> None:
        # Imported here: the processes that only curate need none of the model libraries.
        from components.data.encode import Encoder

        quiet_libraries()
        try:
            self._encode = Encoder(model, vision)
        except ArtifactError as error:  # Ray passes on that a constructor failed, but not with which error
            ray.get(ledger.failed.remote(str(error)))
            raise
        self._ledger = ledger

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        columns, rejects = encode_rows(batch, self._encode)
        if rejects:
            ray.get(self._ledger.rejected.remote(rejects))
        if columns:
            ray.get(self._ledger.encoded.remote(columns["id"].tolist()))
            yield columns


def encode_rows(batch: Batch, encode: Callable[[Batch], Batch]) -> tuple[Batch, list[Reject]]:
    """Encode ``batch``; one that fails is tried row by row, so that a bad row costs no other. Empty if none is left."""
    try:
        encoded = encode(batch)
    except (RuntimeError, ValueError) as error:
        rows = len(batch["id"])
        if rows == 1:
            return {}, _rejects(batch, f"the encoders failed ({type(error).__name__})")
        logger.warning("a batch of %d rows could not be encoded (%s); trying them one by one", rows, error)
        tried = [encode_rows(take(batch, np.arange(rows) == row), encode) for row in range(rows)]
        kept = [columns for columns, _ in tried if columns]
        joined = {name: np.concatenate([columns[name] for columns in kept]) for name in kept[0]} if kept else {}
        return joined, [reject for _, rejects in tried for reject in rejects]
    finite = _finite_rows(encoded)
    return take(encoded, finite) if finite.any() else {}, _rejects(take(encoded, ~finite), "beyond half precision")


def _rejects(rows: Batch, reason: str) -> list[Reject]:
    pairs = zip(rows["id"].tolist(), rows["source"].tolist(), strict=True)
    return [Reject(name, source, "encode", reason) for name, source in pairs]


def take(batch: Batch, rows: NDArray[np.bool_]) -> Batch:
    """The chosen rows of every column."""
    return {name: column[rows] for name, column in batch.items()}


def _finite_rows(columns: Batch) -> NDArray[np.bool_]:
    """Which rows hold numbers only: half precision overflows to infinity."""
    floats = [column for column in columns.values() if column.dtype.kind == "f"]
    return np.all([np.isfinite(column).all(axis=tuple(range(1, column.ndim))) for column in floats], axis=0)
