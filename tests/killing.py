"""Killing whole families of processes."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from tests.faults import wait_for


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


def _runs(process: psutil.Process) -> bool:
    """What nobody has buried yet runs no more."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
