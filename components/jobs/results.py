"""Results of jobs as files: one an attempt, named after it, so that no attempt can overwrite another's."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from components.jobs.job import JobNotFoundError
from components.object_store import open_object_store


class ResultFiles:
    """``<place>/<job>.<token>``, in a directory or below a URL. A result appears whole or not at all, and is kept when
    `write` returns.
    """

    def __init__(self, place: Path | str) -> None:
        self._blobs = open_object_store(place)

    def write(self, job: str, token: str, content: bytes) -> None:
        self._blobs.write(f"{job}.{token}", content)

    def read(self, job: str, token: str) -> bytes:
        """The content.

        Raises:
            JobNotFoundError: it was deleted meanwhile.
        """
        try:
            return self._blobs.read(f"{job}.{token}")
        except FileNotFoundError:
            raise JobNotFoundError("there is no such job; list the existing ones") from None

    def discard(self, job: str, token: str) -> None:
        self._blobs.discard(f"{job}.{token}")

    def sweep(self, wanted: Container[tuple[str, str]], older_than_s: float = 3600) -> int:
        """Remove files that are not ``wanted`` (job, token) and too old to be in the making; returns how many."""
        removed = 0
        for name in self._blobs.names():
            job, _, token = name.partition(".")
            if (job, token) in wanted:
                continue
            try:
                old = self._blobs.age_s(name) >= older_than_s
            except FileNotFoundError:  # another process was quicker
                continue
            if old:
                self._blobs.discard(name)
                removed += 1
        return removed
