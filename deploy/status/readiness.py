"""Whether the service can work, judged by what its parts report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.engine.stats import Stats
from deploy.status.replica_status import Report


class UnhealthyError(Exception):
    """This replica is to be replaced."""


def check_moving(engines: Iterable[Stats], limit_s: float) -> None:
    """Raise UnhealthyError if one of the engines has work, and has been silent for longer than ``limit_s`` seconds."""
    silent_s = max((stats.silent_s for stats in engines), default=0.0)
    if silent_s > limit_s:
        raise UnhealthyError(f"an engine has work, and nothing has moved for {silent_s:.0f} s (serving.stuck_s)")


def troubles(reports: Sequence[Report], min_replicas: int) -> dict[str, str]:
    """What keeps the service from its work, by part; nothing if it is ready.

    Where ``min_replicas`` is 0 a generator may sleep: the next request wakes one.
    """
    found: dict[str, str] = {}
    for part, needed in {"generator": min_replicas > 0, "jobs": True}.items():
        said = [report.trouble for report in reports if report.part == part]
        if None not in said and (said or needed):
            found[part] = next(filter(None, said), "no replica has reported yet")
    return found
