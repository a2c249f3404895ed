"""Results of jobs as files: one for each attempt, so that no attempt overwrites the result of another."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from components.jobs.job import JobNotFoundError
from components.object_store import open_object_store


class ResultFiles:
    """Files ``<place>/<job>.<token>``, in a directory or below a URL. Writes are atomic and durable."""

    def __init__(self, place: Path | str) -> None:
        self._objects = open_object_store(place)

    def write(self, job: str, token: str, content: bytes) -> None:
        self._objects.write(f"{job}.{token}", content)

    def read(self, job: str, token: str) -> bytes:
        """The content.

        Raises:
            JobNotFoundError: it was deleted.
        """
        try:
            return self._objects.read(f"{job}.{token}")
        except FileNotFoundError:
            raise JobNotFoundError("there is no such job; list the existing ones") from None

    def discard(self, job: str, token: str) -> None:
        self._objects.discard(f"{job}.{token}")

    def sweep(self, wanted: Container[tuple[str, str]], older_than_s: float = 3600) -> int:
        """Remove files that are not ``wanted`` (job, token) and older than ``older_than_s``; returns how many."""
        removed = 0
        for name in self._objects.names():
            job, _, token = name.partition(".")
            if (job, token) in wanted:
                continue
            try:
                old = self._objects.age_s(name) >= older_than_s
            except FileNotFoundError:  # another process removed it
                continue
            if old:
                self._objects.discard(name)
                removed += 1
        return removed
