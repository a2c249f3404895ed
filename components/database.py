"""Opens the database that the service's processes share: an SQLite file by default, or a server."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from components.config import DatabaseLimits, ServingConfig
from components.database_limits import create_limited_engine
from components.errors import ConfigError
from components.migrations.migrate import open_schema

#: What is raised if the database does not answer, or not in time; a retry may succeed.
UNAVAILABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
_DEFAULT_LIMITS = DatabaseLimits()
#: Seconds for which a new connection of SQLite waits for another one.
_BUSY_S = 30


def open_database(
    directory: Path | str, url: str | None, limits: DatabaseLimits = _DEFAULT_LIMITS, **options: Any
) -> sa.Engine:
    """Connect, and bring the schema to this release's revision (`components.migrations`).

    Args:
        directory: of the default database. A path is created.
        url: SQLAlchemy URL; by default SQLite in ``directory``.
        options: of `sqlalchemy.create_engine`.

    Raises:
        ConfigError: ``directory`` is a URL, and there is no ``url``; or a newer release has changed the database in
            a way that this one cannot use.
    """
    migrated = connect_to_migrate(directory, url, limits)
    open_schema(migrated)
    migrated.dispose()
    return connect_database(directory, url, limits, **options)


def open_service_database(serving: ServingConfig) -> sa.Engine:
    """`open_database` of a service's configuration."""
    return open_database(serving.store, serving.database, serving.database_limits)


def connect_to_migrate(directory: Path | str, url: str | None, limits: DatabaseLimits = _DEFAULT_LIMITS) -> sa.Engine:
    """As `connect_database`, but statements take as long as they need."""
    return _connect(directory, url, limits.connect_s, None)


def connect_database(
    directory: Path | str, url: str | None, limits: DatabaseLimits = _DEFAULT_LIMITS, **options: Any
) -> sa.Engine:
    """The engine of `open_database`; the schema stays as it is.

    Raises:
        ConfigError: ``directory`` is a URL, and there is no ``url``.
    """
    return _connect(directory, url, limits.connect_s, limits.statement_s, **options)


def _connect(
    directory: Path | str, url: str | None, connect_s: float, statement_s: float | None, **options: Any
) -> sa.Engine:
    if isinstance(directory, Path):
        directory.mkdir(parents=True, exist_ok=True)
        url = url or f"sqlite:///{directory / 'characters.db'}"
    if url is None:
        raise ConfigError("serving.database: give the URL of a database, since serving.store is no directory")
    engine = create_limited_engine(url, connect_s, statement_s, **options)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _share_sqlite)
    return engine


def _share_sqlite(connection: Any, _record: Any) -> None:
    """Allow reads during a write (write-ahead log)."""
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
