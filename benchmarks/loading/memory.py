"""Peak memory of a process and its children, with shared pages counted once."""

from __future__ import annotations

import threading

import psutil

_MIB = 2**20


class TreePeak:
    """Context manager; ``mib`` is the peak memory of process ``pid`` and its descendants.

    Proportional set sizes are added, as Linux knows them, so that Ray's object store, which many processes map,
    counts once.
    """

    def __init__(self, pid: int, every_s: float = 0.5) -> None:
        self.mib = 0.0
        self._root, self._every_s, self._finished = psutil.Process(pid), every_s, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TreePeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._finished.wait(self._every_s):
            self.mib = max(self.mib, sum(map(_held, _tree(self._root))) / _MIB)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0  # it has ended
