"""One database for rows that several processes share: SQLite in a file by default, a server by URL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

#: Key of the lock under which PostgreSQL's tables are made: there, "if not exists" alone is no protection.
_MAKING_TABLES = 0x7263_7461_626C_6573


def open_database(directory: Path, url: str | None, tables: Iterable[sa.Table]) -> sa.Engine:
    """Connect, and make the tables that are not there yet.

    Args:
        directory: exists afterwards; the default database lies in it.
        url: SQLAlchemy URL; by default SQLite in ``directory``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Connections that the server has closed meanwhile are replaced, and what is written is in no log and no error.
    url = url or f"sqlite:///{directory / 'characters.db'}"
    engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _share_sqlite)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING_TABLES)))
        for table in tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
    return engine


def _share_sqlite(connection: Any, _record: Any) -> None:
    """Readers do not wait for a writer, and writers wait for each other."""
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
