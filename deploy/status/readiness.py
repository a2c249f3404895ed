"""Health of an engine and readiness of the whole service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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


def readiness_problems(
    reports: Sequence[ReplicaReport], min_replicas: int, awaited: str | None = None
) -> dict[str, str]:
    """Why the service is not ready, by part; empty if it is ready.

    With ``min_replicas`` 0 no generator has to run: the next request starts one.

    Args:
        awaited: what a generator waits for that has not reported; see `awaited_resources`.
    """
    problems: dict[str, str] = {}
    for part, required in {"generator": min_replicas > 0, "jobs": True}.items():
        reported = [report.problem for report in reports if report.part == part]
        if None not in reported and (reported or required):
            problems[part] = next(filter(None, reported), "no replica has reported yet")
            if part == "generator" and not reported and awaited is not None:
                problems[part] = awaited
    return problems


def awaited_resources(
    nodes: Sequence[Mapping[str, float]], free: Mapping[str, float], cpus: float, gpus: float
) -> str | None:
    """What a generator that needs ``cpus`` and ``gpus`` waits for; None if it is not for these.

    Args:
        nodes: the resources of each node of the Ray cluster, with Ray's names ``CPU`` and ``GPU``.
        free: those of all nodes that are not reserved.
    """
    needed = {name: count for name, count in (("CPU", cpus), ("GPU", gpus)) if count}
    wanted = " and ".join(f"{count:g} {name}{'s' if count != 1 else ''}" for name, count in needed.items())
    settings = "serving.generator_threads, serving.generator_gpus"
    if not any(all(node.get(name, 0) >= count for name, count in needed.items()) for node in nodes):
        return f"no node of the Ray cluster has the {wanted} that a generator reserves ({settings})"
    if any(free.get(name, 0) < count for name, count in needed.items()):
        return f"a generator waits for {wanted} that are reserved by others ({settings})"
    return None
