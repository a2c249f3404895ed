"""Warm-up: a few images before the first request, so that one-time work such as compilation is done by then."""

from __future__ import annotations

from collections.abc import Sequence

from components.engine.engine import Engine
from components.engine.request import Pipeline, Request


def warm_up(pipeline: Pipeline, probes: Sequence[Request]) -> None:
    """Generate each of ``probes`` alone, and then two of it together, through an engine.

    Raises:
        Exception: an image cannot be generated.
    """
    engine = Engine(pipeline, 2 * max((probe.pixels for probe in probes), default=1))
    try:
        for probe in probes:
            for count in (1, 2):
                for future in engine.submit_all([probe] * count):
                    future.result()
    finally:
        engine.close()
