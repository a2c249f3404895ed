"""A collector in a process of its own: ``python -m tests.fakes.stories_process <database> <directory>``."""

from __future__ import annotations

import sys
from pathlib import Path

from components.config import StoriesConfig
from components.database import open_database
from components.jobs.result_files import ResultFiles
from components.object_store import open_object_store
from components.stories.takes import TakeStore


def main(database: str, directory: str) -> None:
    """Collect every job that has ended."""
    place = Path(directory)
    engine = open_database(place, database)
    takes = TakeStore(engine, open_object_store(place), ResultFiles(place / "jobs"), StoriesConfig())
    print("ready", flush=True)
    sys.stdin.readline()
    while takes.collect():
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
