"""A worker in a process of its own: ``python -m tests.fakes.jobs_process <database> <directory> drain|hold``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from components.database import open_database
from components.jobs.queue import JobQueue
from components.jobs.result_files import ResultFiles


def main(database: str, directory: str, mode: str) -> None:
    """Finish every job there is (``drain``), or keep one for ever (``hold``); print what was claimed."""
    engine = open_database(Path(directory), database)
    queue = JobQueue(engine, ResultFiles(Path(directory)), lease_s=0.5 if mode == "hold" else 60, max_attempts=3)
    print("ready", flush=True)
    sys.stdin.readline()
    while (lease := queue.claim()) is not None:
        print(lease.job, flush=True)
        while mode == "hold":
            queue.renew(lease)
            time.sleep(0.1)
        queue.finish(lease, b"drained")


if __name__ == "__main__":
    main(*sys.argv[1:])
