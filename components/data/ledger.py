"""The books of a running preparation: which rows are done, which were left out, and why."""

from __future__ import annotations

import ray

from components.data.schema import Reject


class Ledger:
    """Entries are kept by row, so a task that Ray runs again counts once."""

    def __init__(self) -> None:
        self._encoded: set[str] = set()
        self._rejects: dict[str, Reject] = {}
        self._failure: str | None = None

    def encoded(self, ids: list[str]) -> None:
        self._encoded.update(ids)

    def rejected(self, rejects: list[Reject]) -> None:
        self._rejects.update({reject.id: reject for reject in rejects})

    def failed(self, reason: str) -> None:
        """Note why no row at all can be prepared."""
        self._failure = reason

    def failure(self) -> str | None:
        return self._failure

    def settled(self) -> int:
        """Rows that are done or left out."""
        return len(self._encoded) + len(self._rejects)

    def rejects(self) -> list[Reject]:
        return sorted(self._rejects.values())


#: The ledger as one process that every task can reach. It takes no core from the work.
LedgerActor = ray.remote(num_cpus=0)(Ledger)
