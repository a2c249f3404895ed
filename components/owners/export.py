"""Everything of an owner as a zip file, made piece by piece.

``<kind>.jsonl`` has a row a line, ``files/<id>/...`` the stored files of characters, stories and the history,
``files/answers/...`` the answers to requests with an idempotency key, and ``results/<job>.json`` those of jobs.
Secrets and what is computed anew (tokens, thumbnails) are left out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress

import sqlalchemy as sa

from components.access.stored_answers import answer_folder
from components.jobs.job import State
from components.jobs.tables import jobs
from components.object_store import ObjectStore
from components.owners.records import owner_records, rows

#: Parts of names of files that are computed from others.
_COMPUTED = ("/tokens-", "/thumbnail-", ".webp", ".partial")


class _Pieces(io.RawIOBase):
    """Collects what is written; zipfile writes to it without seeking."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        piece = bytes(self._written)
        self._written.clear()
        return piece


def export_owner(engine: sa.Engine, files: ObjectStore, results: ObjectStore, owner: str) -> Iterator[bytes]:
    """Yield the pieces of the zip file: at most a file, or some hundred rows, are in memory at a time.

    Args:
        files: the store of characters, stories and the history; ``results``: of jobs.
    """
    pieces = _Pieces()
    folders = [answer_folder(owner)]
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:
        for records in owner_records(owner):
            with archive.open(f"{records.name}.jsonl", "w", force_zip64=True) as lines:
                for row in rows(engine, records):
                    lines.write(json.dumps(row, default=str, ensure_ascii=False).encode() + b"\n")
                    if records.foldered:
                        folders.append(row["id"])
                    if piece := pieces.take():
                        yield piece
        for folder in folders:
            for name in sorted(files.names(folder)):
                if any(part in name for part in _COMPUTED):
                    continue
                with suppress(FileNotFoundError):  # deleted meanwhile
                    archive.writestr(f"files/{name}", files.read(name))
                yield pieces.take()
        for job, token in _done(engine, owner):
            with suppress(FileNotFoundError):
                archive.writestr(f"results/{job}.json", results.read(f"{job}.{token}"))
            yield pieces.take()
    yield pieces.take()


def _done(engine: sa.Engine, owner: str) -> list[tuple[str, str]]:
    query = sa.select(jobs.c.id, jobs.c.token).where(jobs.c.owner == owner, jobs.c.state == State.DONE)
    with engine.connect() as connection:
        return [(row.id, row.token) for row in connection.execute(query)]
