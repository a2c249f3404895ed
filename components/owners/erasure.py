"""Erases everything of an owner, and says what was erased.

Entries of the audit log stay until they expire: they hold ids only, and prove what was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from components.access.stored_answers import answer_folder
from components.jobs.tables import jobs
from components.object_store import ObjectStore
from components.owners.records import Records, owner_records

#: A request that was under way when its key was erased may still store something.
_PASSES = 3


@dataclass
class Receipt:
    """What was erased: ids by kind, numbers of rows and files; and the number of rows that are kept."""

    owner: str
    #: Seconds since 1970.
    at: float
    rows: dict[str, int] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    files: int = 0
    kept: dict[str, int] = field(default_factory=dict)


def erase_owner(
    engine: sa.Engine,
    files: ObjectStore,
    results: ObjectStore,
    owner: str,
    pause_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Receipt:
    """Erase rows and files. A repetition erases what has come since.

    Args:
        files: the store of characters, stories and the history; ``results``: of jobs.
        pause_s: seconds for which gateways may still accept the owner's keys, waited for before the last passes.
    """
    receipt = Receipt(owner, time.time())
    for number in range(_PASSES):
        if not _erase(engine, files, results, owner, receipt) and number:
            break
        if number == 0:
            sleep(pause_s)
    return receipt


def _erase(engine: sa.Engine, files: ObjectStore, results: ObjectStore, owner: str, receipt: Receipt) -> int:
    """One pass; returns the number of rows."""
    erased, folders = 0, [answer_folder(owner)]
    with engine.begin() as connection:
        attempts = connection.execute(sa.select(jobs.c.id, jobs.c.token).where(jobs.c.owner == owner)).all()
        for kind in owner_records(owner):
            if kind.kept:
                count = sa.select(sa.func.count()).select_from(kind.table).where(kind.condition)
                receipt.kept[kind.name] = connection.execute(count).scalar_one()
                continue
            erased += _delete(connection, kind, receipt, folders)
    for folder in folders:
        receipt.files += len(files.names(folder))
        files.clear(folder)
    for job, token in attempts:
        if token is not None:
            results.discard(f"{job}.{token}")
            receipt.files += 1
    return erased


def _delete(connection: sa.Connection, kind: Records, receipt: Receipt, folders: list[str]) -> int:
    deleted = kind.table.delete().where(kind.condition).returning(kind.identity)
    found = [str(value) for value in connection.execute(deleted).scalars()]
    receipt.rows[kind.name] = receipt.rows.get(kind.name, 0) + len(found)
    if kind.identity.name == "id":
        receipt.ids.setdefault(kind.name, []).extend(found)
    if kind.foldered:
        folders += found
    return len(found)
