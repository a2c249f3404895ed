"""Result tables, one for each variant: means with 95 % intervals, and published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.dreambench.published import PUBLISHED
from components.evaluation.dreambench.score import VARIANTS
from components.evaluation.statistics import Estimate, mean

TITLES = {"whole": "Whole pictures", "masked": "Subjects cut out before they are compared"}
BY_OTHERS = "published by others, their protocol"
#: Scores by metric; None where a metric does not apply.
Row = Mapping[str, float | None]


@dataclass(frozen=True)
class TableRow:
    """One line of a table; ``by_others`` marks published results of other protocols."""

    name: str
    cells: Mapping[str, Estimate | float | None]
    by_others: bool = False


@dataclass(frozen=True)
class ResultTable:
    """Scores of one ``variant`` of the protocol, whole pictures or cut-out subjects."""

    variant: str
    metrics: tuple[str, ...]
    rows: list[TableRow]


def tables(scores: Mapping[str, Sequence[Row]], photographs: Mapping[str, Row], text: str) -> list[ResultTable]:
    """One table for each variant.

    Args:
        scores: rows of the pictures, by subject.
        photographs: similarity among the photographs of each subject.
        text: the metric of agreement with prompts, part of every table.
    """
    metrics = list(next(iter(scores.values()))[0])
    generated = {name: _by_subject(scores, name) for name in metrics}
    real = {name: _by_subject({s: [row] for s, row in photographs.items()}, name) for name in metrics if name != text}
    return [_table(variant, (*_of(variant, metrics), text), generated, real) for variant in VARIANTS]


def as_text(cell: Estimate | float | None) -> str:
    """The text of a cell."""
    return "" if cell is None else str(cell) if isinstance(cell, Estimate) else f"{cell:.3f}"


def _table(
    variant: str, metrics: tuple[str, ...], generated: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]
) -> ResultTable:
    ceiling = {name: _estimate(real[name]) if name in real else None for name in metrics}
    rows = [
        TableRow("this model", {name: _estimate(generated[name]) for name in metrics}),
        TableRow("real photographs, among themselves", ceiling),
    ]
    for row in PUBLISHED[variant]:
        if set(row.scores) <= set(metrics):
            cells = {name: row.scores.get(name) for name in metrics}
            rows.append(TableRow(f"{row.method} ({row.source})", cells, by_others=True))
    return ResultTable(variant, metrics, rows)


def _of(variant: str, metrics: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in metrics if name.endswith(f"_{variant}"))


def _by_subject(scores: Mapping[str, Sequence[Row]], metric: str) -> np.ndarray:
    """The mean over each subject's images, for subjects to which the metric applies."""
    values = [[value for row in rows if (value := row[metric]) is not None] for rows in scores.values()]
    return np.array([np.mean(own) for own in values if own])


def _estimate(subjects: np.ndarray) -> Estimate | None:
    """The mean of subjects' means. Subjects are resampled, as images of one subject are not independent."""
    return mean(subjects) if len(subjects) else None
