"""Memory of the processes that a rehearsal starts, also of those that Ray starts for it, found by their environment."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]

#: Environment variable that all processes of one rehearsal inherit.
MARKER = "REALCUSTOM_REHEARSAL"
#: Seconds between two looks.
_EVERY_S = 0.5
#: Processes that are reported, largest first.
_MOST = 6
_ARGUMENTS = re.compile(r"[\s(\[:]")


@dataclass
class PeakMemory:
    """The largest memory seen, in GB."""

    total_gb: float = 0.0
    #: Name of a process -> its largest resident memory.
    processes: dict[str, float] = field(default_factory=dict)

    @property
    def largest(self) -> dict[str, float]:
        """The largest processes, rounded."""
        ordered = sorted(self.processes.items(), key=lambda each: -each[1])[:_MOST]
        return {name: round(gb, 2) for name, gb in ordered}


@contextmanager
def watch_memory(marker: str) -> Iterator[PeakMemory]:
    """Watch the processes whose `MARKER` is ``marker`` for the length of the block."""
    peak, ended, members = PeakMemory(), threading.Event(), _Members(marker)

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            _look(members, peak)

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        _look(members, peak)


def marked_processes(marker: str) -> list[psutil.Process]:
    """The running processes whose `MARKER` is ``marker``, except this one."""
    return _Members(marker).find()


class _Members:
    """The processes of a rehearsal. The environment of each process is read once."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._known: dict[tuple[int, float], bool] = {}

    def find(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                key = (process.pid, process.create_time())
                if key not in self._known:
                    self._known[key] = process.environ().get(MARKER) == self._marker
                if self._known[key] and process.pid != psutil.Process().pid:
                    found.append(process)
            except psutil.Error:  # gone, or another user's
                continue
        return found


def _look(members: _Members, peak: PeakMemory) -> None:
    private, shared = 0, 0
    for process in members.find():
        try:
            memory, name = process.memory_info(), _name(process)
        except psutil.Error:
            continue
        private += memory.rss - memory.shared
        shared = max(shared, memory.shared)  # of the object store, which many processes map
        peak.processes[name] = max(peak.processes.get(name, 0.0), memory.rss / 1e9)
    peak.total_gb = max(peak.total_gb, (private + shared) / 1e9)


def _name(process: psutil.Process) -> str:
    """``ray::RayTrainWorker``, or the module that Python runs."""
    words = process.cmdline()
    if not words:
        return str(process.name())
    if words[0].startswith("ray::"):
        return "ray::" + _ARGUMENTS.split(words[0].removeprefix("ray::"))[0]
    return words[words.index("-m") + 1] if "-m" in words[:-1] else str(process.name())
