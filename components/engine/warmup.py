"""Drawing a little before anybody waits: what happens only once, such as compiling, then happens here."""

from __future__ import annotations

from collections.abc import Sequence

from components.engine.engine import Engine
from components.engine.request import Pipeline, Request


def warm_up(pipeline: Pipeline, probes: Sequence[Request]) -> None:
    """Draw each of ``probes`` alone, and then two of it together, in the way that requests are drawn.

    Raises:
        Exception: whatever drawing fails with.
    """
    engine = Engine(pipeline, 2 * max((probe.pixels for probe in probes), default=1))
    try:
        for probe in probes:
            for count in (1, 2):
                for handle in engine.submit_all([probe] * count):
                    handle.result()
    finally:
        engine.close()
