"""What the tests that break things have in common: waiting, acting at the right moment, killing by name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psutil

#: What makes Ray notice within seconds that a node is gone.
QUICK_DETECTION = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


def wait_for(ready: Callable[[], object], seconds: float = 300) -> None:
    """Until ``ready`` says so; fails after so many ``seconds``."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


@contextmanager
def once(ready: Callable[[], bool], act: Callable[[], object]) -> Iterator[list[object]]:
    """Act in the background as soon as something is ready; gives what came of it."""
    done: list[object] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set() and not ready():
            time.sleep(0.002)
        if not ended.is_set():
            done.append(act())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


def kill_children(wanted: Callable[[str], bool]) -> int:
    """Kill those processes below this one whose command line is ``wanted``; says how many there were."""
    victims = [child for child in psutil.Process().children(recursive=True) if wanted(_command_line(child))]
    for victim in victims:
        victim.kill()
    return len(victims)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it and they have started."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def kill_all(victims: Iterable[psutil.Process]) -> int:
    """Kill processes, and wait until they run no more; says how many there were."""
    victims = list(victims)
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:  # another's death was its own
            continue
    wait_for(lambda: not any(_runs(victim) for victim in victims), 30)
    return len(victims)


def environment_without_ray() -> dict[str, str]:
    """This process's environment, but for a Ray that a child would join."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _runs(process: psutil.Process) -> bool:
    """What nobody has buried yet runs no more."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
