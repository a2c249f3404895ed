"""Metrics and sample grids of a run: written to a file first, and delivered to the tracker from there.

Training never waits for the tracker: while its store is down, entries stay in the file, and the next run of the same
command delivers them at the latest. A step is written once, also when it is trained again after an interruption.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from components.files import write_whole
from components.training.tracker import MetricPoint, Tracker

logger = logging.getLogger(__name__)
#: Entries delivered at a time.
_BATCH = 20
#: Seconds between attempts to deliver, at first and at most.
_FIRST_WAIT, _LAST_WAIT = 1.0, 60.0


class Entry(BaseModel):
    """A line of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    #: Milliseconds since 1970.
    time: int
    metrics: dict[str, float] = {}
    #: A file to upload, and the folder of the run's artifacts to upload it into.
    artifact: str | None = None
    folder: str | None = None


Deliver = Callable[[Sequence[Entry]], None]


class Journal:
    """A journal of one run. One process writes at a time.

    Args:
        file: its lines; the number of delivered entries is stored beside it.
        deliver: may fail, and is then called again with the same entries.
    """

    def __init__(self, file: Path, deliver: Deliver) -> None:
        self._file, self._deliver = file, deliver
        self._delivered = file.with_suffix(".delivered")
        self._entries = _read(file)
        self._sent = int(self._delivered.read_text()) if self._delivered.exists() else 0
        self._last = {kind: max((e.step for e in self._entries if _kind(e) == kind), default=0) for kind in (0, 1)}
        self._changed = threading.Condition()  # guards the entries and what follows
        self._closing = self._quiet = False
        self._thread: threading.Thread | None = None

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record the metrics of ``step``, unless they are recorded."""
        self._add(Entry(step=step, time=int(time.time() * 1000), metrics=values))

    def artifact(self, step: int, file: Path, folder: str) -> None:
        """Record a finished ``file`` of ``step``, unless one is recorded."""
        self._add(Entry(step=step, time=int(time.time() * 1000), artifact=str(file), folder=folder))

    def flush(self) -> None:
        """Deliver the remaining entries now; errors of ``deliver`` are raised."""
        while batch := self._next():
            self._deliver(batch)
            self._record_delivered(len(batch))

    def close(self, timeout: float = 30) -> bool:
        """Stop the delivery in the background; False if entries remain."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._sent == len(self._entries)

    def _add(self, entry: Entry) -> None:
        with self._changed:
            if entry.step <= self._last[_kind(entry)]:
                return
            with self._file.open("a") as stream:
                stream.write(entry.model_dump_json(exclude_defaults=True) + "\n")
            self._entries.append(entry)
            self._last[_kind(entry)] = entry.step
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _next(self) -> list[Entry]:
        return self._entries[self._sent : self._sent + _BATCH]

    def _record_delivered(self, count: int) -> None:
        self._sent += count
        write_whole(self._delivered, str(self._sent))

    def _work(self) -> None:
        wait = _FIRST_WAIT
        while True:
            with self._changed:
                while not self._next():
                    if self._closing:
                        return
                    self._changed.wait()
            try:
                self.flush()
                wait = _FIRST_WAIT
            except Exception as error:  # the entries stay in the file, and delivery is tried again
                if wait == _FIRST_WAIT:
                    logger.warning("metrics cannot be delivered (%s); they are stored in %s", error, self._file)
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, wait)
                wait = min(2 * wait, _LAST_WAIT)


def deliver_to(tracker: Tracker, run_id: str) -> Deliver:
    """Delivers entries to a run. Delivering an entry again changes nothing: it has the same step and time."""

    def deliver(entries: Sequence[Entry]) -> None:
        points = [MetricPoint(n, v, e.step, e.time) for e in entries for n, v in e.metrics.items()]
        if points:
            tracker.log_metrics(run_id, points)
        for entry in entries:
            if entry.artifact is not None and entry.folder is not None:
                tracker.log_artifact(run_id, Path(entry.artifact), entry.folder)

    return deliver


def _kind(entry: Entry) -> int:
    return 0 if entry.artifact is None else 1


def _read(file: Path) -> list[Entry]:
    """The entries of ``file``; an incomplete last line, which a killed process leaves, is cut off."""
    if not file.exists():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with file.open("r+b") as stream:
            stream.truncate(len(whole))
    return [Entry(**json.loads(line)) for line in whole.splitlines()]
