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
    """Holds an `Encoder`. A batch that fails is tried row by row, so that one bad row costs no other."""

    def __init__(self, model: ModelConfig, vision: VisionConfig, ledger: ActorHandle[Any]) -> None:
        # Imported here: the processes that curate need none of the model libraries.
        from components.data.encode import Encoder
        from components.progress import quiet_libraries

        quiet_libraries()
        self._encode: Callable[[Batch], Batch] = Encoder(model, vision)
        self._ledger = ledger

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for encoded in self._attempts(batch):
            finite = finite_rows(encoded)
            self._refuse(take(encoded, ~finite), "values beyond half precision")
            if finite.any():
                kept = take(encoded, finite)
                ray.get(self._ledger.encoded.remote(kept["id"].tolist()))
                yield kept

    def _attempts(self, batch: Batch) -> Iterator[Batch]:
        try:
            parts = [self._encode(batch)]
        except (RuntimeError, ValueError) as error:
            rows = len(batch["id"])
            logger.warning("a batch of %d rows could not be encoded (%s); trying them one by one", rows, error)
            parts = [part for row in range(rows) if (part := self._attempt(take(batch, np.arange(rows) == row)))]
        yield from parts

    def _attempt(self, row: Batch) -> Batch | None:
        try:
            return self._encode(row)
        except (RuntimeError, ValueError) as error:
            self._refuse(row, f"the encoders failed ({type(error).__name__})")
            return None

    def _refuse(self, rows: Batch, reason: str) -> None:
        if len(rows["id"]):
            pairs = zip(rows["id"].tolist(), rows["source"].tolist(), strict=True)
            ray.get(self._ledger.rejected.remote([Reject(id, source, "encode", reason) for id, source in pairs]))


def take(batch: Batch, rows: NDArray[np.bool_]) -> Batch:
    """The chosen rows of every column."""
    return {name: column[rows] for name, column in batch.items()}


def finite_rows(columns: Batch) -> NDArray[np.bool_]:
    """Which rows hold numbers only: half precision overflows to infinity."""
    floats = [column for column in columns.values() if column.dtype.kind == "f"]
    return np.all([np.isfinite(column).all(axis=tuple(range(1, column.ndim))) for column in floats], axis=0)
