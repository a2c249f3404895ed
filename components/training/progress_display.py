"""The driver's progress bar, which reads the progress file of rank 0."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

from components.progress import track


def follow(progress_file: Path, finished: threading.Event, description: str) -> None:
    """Show the training's steps until ``finished`` is set."""
    total = None
    while total is None:
        total = _read(progress_file)[1]
        if finished.wait(0.5):
            return
    for _ in track(_steps(progress_file, finished), description, total):
        pass


def _steps(progress_file: Path, finished: threading.Event) -> Iterator[int]:
    seen = 0
    while True:
        last = finished.wait(0.5)
        step = _read(progress_file)[0]
        yield from range(seen, step)
        seen = max(seen, step)
        if last:
            return


def _read(progress_file: Path) -> tuple[int, int | None]:
    if not progress_file.exists():
        return 0, None
    state = json.loads(progress_file.read_text())
    return state["step"], state["total"]
