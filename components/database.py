"""Opens the database that the service's processes share: an SQLite file by default, or a server."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from components.errors import ConfigError

#: Key of the advisory lock for creating tables: in PostgreSQL, "if not exists" does not prevent races.
_CREATE_LOCK = 0x7263_7461_626C_6573
#: Seconds for which a connection of SQLite waits for another one that writes.
_BUSY_S = 30


def open_database(directory: Path | str, url: str | None, tables: Iterable[sa.Table]) -> sa.Engine:
    """Connect, and create missing tables, and missing columns of tables of an earlier release.

    Args:
        directory: of the default database. A path is created.
        url: SQLAlchemy URL; by default SQLite in ``directory``.

    Raises:
        ConfigError: ``directory`` is a URL, and there is no ``url``.
    """
    if isinstance(directory, Path):
        directory.mkdir(parents=True, exist_ok=True)
        url = url or f"sqlite:///{directory / 'characters.db'}"
    if url is None:
        raise ConfigError("serving.database: give the URL of a database, since serving.store is no directory")
    # Connections that the server has closed are replaced; values do not appear in logs and errors.
    engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _share_sqlite)
    with engine.begin() as connection:
        _lock(connection)
        for table in tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            _add_columns(connection, table)
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
    return engine


def _lock(connection: sa.Connection) -> None:
    """Lock the creation of tables until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_LOCK)))
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _add_columns(connection: sa.Connection, table: sa.Table) -> None:
    """Add missing columns to the database's table; new columns are nullable or have a server default."""
    present = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    quote = connection.dialect.identifier_preparer.quote
    for column in table.columns:
        if column.name not in present:
            definition = str(CreateColumn(column).compile(dialect=connection.dialect))
            connection.exec_driver_sql(f"ALTER TABLE {quote(table.name)} ADD COLUMN {definition}")


def _share_sqlite(connection: Any, _record: Any) -> None:
    """Allow reads during a write (write-ahead log), and let writers wait for each other."""
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # Two connections that change the mode of a new file would wait for each other: SQLite refuses one at once.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
