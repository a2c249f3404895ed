"""Results of jobs as files: one an attempt, named after it, so that no attempt can overwrite another's."""

from __future__ import annotations

import os
import time
from collections.abc import Container
from pathlib import Path

from components.jobs.job import JobNotFoundError


class ResultFiles:
    """``<directory>/<job>.<token>``. A file appears whole or not at all, and is on the disk when `write` returns."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def write(self, job: str, token: str, content: bytes) -> None:
        staging = self._directory / f".{job}.{token}.partial"
        with staging.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(staging, self._path(job, token))
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)  # the new name, too
        finally:
            os.close(directory)

    def read(self, job: str, token: str) -> bytes:
        """The content.

        Raises:
            JobNotFoundError: it was deleted meanwhile.
        """
        try:
            return self._path(job, token).read_bytes()
        except FileNotFoundError:
            raise JobNotFoundError("there is no such job; list the existing ones") from None

    def discard(self, job: str, token: str) -> None:
        self._path(job, token).unlink(missing_ok=True)

    def sweep(self, wanted: Container[tuple[str, str]], older_than_s: float = 3600) -> int:
        """Remove files that are not ``wanted`` (job, token) and too old to be in the making; returns how many."""
        removed = 0
        for path in self._directory.iterdir():
            job, _, token = path.name.partition(".")
            try:
                young = time.time() - path.stat().st_mtime < older_than_s
            except FileNotFoundError:  # another process was quicker
                continue
            if not young and (job, token) not in wanted:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _path(self, job: str, token: str) -> Path:
        return self._directory / f"{job}.{token}"
