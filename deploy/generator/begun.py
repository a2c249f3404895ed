"""An order between its first step and its delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from components.engine.future import ImageFuture
from deploy.generator.subjects import ResolvedSubjects
from deploy.interfaces.protocols import Delivery, Drawing, Order


@dataclass(frozen=True)
class RunningOrder:
    """An order that is being drawn.

    Args:
        end: of all its pictures.
        started, encoded: when it came and when its subjects were known, by `time.monotonic`.
    """

    order: Order
    cast: ResolvedSubjects
    handles: Sequence[ImageFuture]
    end: asyncio.Future[list[Drawing]]
    started: float
    encoded: float
    version: str

    async def delivery(self) -> Delivery:
        """What is delivered once all pictures are there."""
        drawings = await self.end
        draw_s = max(drawing.seconds for drawing in drawings)
        wait_s = time.monotonic() - self.encoded - draw_s
        timings = {"subject_s": self.encoded - self.started, "wait_s": wait_s, "draw_s": draw_s}
        notes = [*self.order.notes, *_notes(self.order, self.cast)]
        return Delivery(drawings, timings, notes, self.cast.prompt, self.cast.words, self.version)


def _notes(order: Order, cast: ResolvedSubjects) -> list[str]:
    """What was asked for and had no effect."""
    faceless = [
        ("", "the pictures") if subject.shown else (f"characters[{i}].", "this character's pictures")
        for i, (subject, kept) in enumerate(zip(order.subjects, cast.tokens, strict=True))
        if kept.face is None and subject.face_strength != 1
    ]
    return [f"{who}face_strength: no face is known on {where}, so it has no effect" for who, where in faceless]
