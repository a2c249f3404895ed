"""Published results on DreamBench. They were measured with other protocols, between which the scores of the same
weights differ by up to 0.04: these rows are for orientation only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """A method's scores, by metric, as its ``source`` gives them."""

    method: str
    source: str
    scores: dict[str, float]


def _whole(method: str, source: str, dino: float, clip_i: float, clip_t: float | None) -> PublishedRow:
    scores = {"dino_whole": dino, "clip_i_whole": clip_i}
    return PublishedRow(method, source, scores if clip_t is None else {**scores, "clip_t": clip_t})


#: Rows by variant.
PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "whole": (
        _whole("RealCustom++", "UNO paper", 0.702, 0.794, 0.318),
        _whole("RealCustom++", "DSH-Bench", 0.746, 0.794, 0.325),
        _whole("UNO", "by others", 0.760, 0.835, 0.304),
        _whole("DreamO", "by others", 0.760, 0.834, 0.306),
        _whole("MOSAIC", "by others", 0.774, 0.843, 0.316),
        _whole("real photographs", "by others", 0.774, 0.885, None),
    ),
    "masked": (
        PublishedRow(
            "RealCustom",
            "its paper: its own prompts, subjects segmented",
            {"dino_masked": 0.7865, "clip_i_masked": 0.8552, "clip_t": 0.3204},
        ),
    ),
}
