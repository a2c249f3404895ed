"""The database that the service's processes share."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from components.database import connect_database


def test_a_new_database_is_opened_by_many_at_once(tmp_path: Path) -> None:
    together = 8
    start = Barrier(together)

    def mode(directory: Path) -> str:
        start.wait()
        engine = connect_database(directory, None)
        with engine.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())

    with ThreadPoolExecutor(together) as threads:
        for attempt in range(200):  # about one of forty failed
            assert set(threads.map(mode, [tmp_path / str(attempt)] * together)) == {"wal"}


def test_only_a_busy_database_is_waited_for(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "read_only.db").execute("CREATE TABLE rows (id INTEGER)")
    engine = connect_database(tmp_path, f"sqlite:///file:{tmp_path / 'read_only.db'}?mode=ro&uri=true")
    start = time.monotonic()
    with pytest.raises(sa.exc.OperationalError, match="readonly"):
        engine.connect()
    assert time.monotonic() - start < 5
