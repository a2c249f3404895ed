"""Opens the database that the service's processes share: an SQLite file by default, or a server."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from components.errors import ConfigError
from components.migrations.migrate import open_schema

#: Seconds for which a connection of SQLite waits for another one that writes.
_BUSY_S = 30


def open_database(directory: Path | str, url: str | None) -> sa.Engine:
    """Connect, and bring the schema to this release's revision (`components.migrations`).

    Args:
        directory: of the default database. A path is created.
        url: SQLAlchemy URL; by default SQLite in ``directory``.

    Raises:
        ConfigError: ``directory`` is a URL, and there is no ``url``; or a newer release has changed the database in
            a way that this one cannot use.
    """
    engine = connect_database(directory, url)
    open_schema(engine)
    return engine


def connect_database(directory: Path | str, url: str | None) -> sa.Engine:
    """The engine of `open_database`; the schema stays as it is.

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
    return engine


def _share_sqlite(connection: Any, _record: Any) -> None:
    """Allow reads during a write (write-ahead log), and let writers wait for each other."""
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Two connections that change the mode of a new file would wait for each other: SQLite refuses one at once.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the lowest byte of an extended code
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
