"""Warm-up: a few images before the first request, so that one-time work such as compilation is done by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from components.engine.engine import Engine
from components.engine.request import ExpiredError, Pipeline, Request


def warm_up(pipeline: Pipeline, probes: Sequence[Request], deadline: float | None = None) -> bool:
    """Generate each of ``probes`` alone, and then each twice together, through an engine.

    Args:
        deadline: of `time.monotonic`, at which it ends before the next step.

    Returns:
        Whether all were generated.

    Raises:
        Exception: an image cannot be generated.
    """
    engine = Engine(pipeline, 2 * max((probe.pixels for probe in probes), default=1))
    limited = [replace(probe, deadline=deadline) for probe in probes]
    try:
        for count in (1, 2):
            for probe in limited:
                for future in engine.submit_all([probe] * count):
                    future.result()
    except ExpiredError:
        return False
    finally:
        engine.close()
    return True
