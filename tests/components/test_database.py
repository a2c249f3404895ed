"""The database that the service's processes share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from components.database import open_database


def test_a_new_database_is_opened_by_many_at_once(tmp_path: Path) -> None:
    together = 8
    start = Barrier(together)

    def mode(directory: Path) -> str:
        start.wait()
        engine = open_database(directory, None, ())
        with engine.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())

    with ThreadPoolExecutor(together) as threads:
        for attempt in range(200):  # about one of forty failed
            assert set(threads.map(mode, [tmp_path / str(attempt)] * together)) == {"wal"}
