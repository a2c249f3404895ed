"""Health of an engine and readiness of the whole service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.engine.stats import Stats
from deploy.status.replica_status import ReplicaReport

#: How many times as long as expected a step may take on a busy machine, beside the limit.
_PATIENCE = 10


class UnhealthyError(Exception):
    """This replica has to be replaced."""


def check_progress(engines: Iterable[Stats], limit_s: float) -> None:
    """Raise UnhealthyError if an engine has work but has made no progress for more than ``limit_s`` seconds.

    A step that is expected to be slow gets more time: it does not hang.
    """
    silent_s = max((s.silent_s for s in engines if s.silent_s > limit_s + _PATIENCE * s.expected_s), default=0.0)
    if silent_s:
        raise UnhealthyError(f"an engine has work but made no progress for {silent_s:.0f} s (serving.stuck_s)")


def readiness_problems(reports: Sequence[ReplicaReport], min_replicas: int) -> dict[str, str]:
    """Why the service is not ready, by part; empty if it is ready.

    With ``min_replicas`` 0 no generator has to run: the next request starts one.
    """
    problems: dict[str, str] = {}
    for part, required in {"generator": min_replicas > 0, "jobs": True}.items():
        reported = [report.problem for report in reports if report.part == part]
        if None not in reported and (reported or required):
            problems[part] = next(filter(None, reported), "no replica has reported yet")
    return problems
