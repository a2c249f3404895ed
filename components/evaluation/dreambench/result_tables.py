"""The benchmark's tables, one for each variant: means with 95 % intervals, beside what others published."""

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
    """One line of a table; ``by_others`` marks what was published by others under their protocol."""

    name: str
    cells: Mapping[str, Estimate | float | None]
    by_others: bool = False


@dataclass(frozen=True)
class Table:
    """Scores of one ``variant`` of the protocol, whole pictures or cut-out subjects."""

    variant: str
    metrics: tuple[str, ...]
    rows: list[TableRow]


def tables(scores: Mapping[str, Sequence[Row]], photographs: Mapping[str, Row], text: str) -> list[Table]:
    """One table a variant.

    Args:
        scores: rows of the pictures, by subject.
        photographs: how like each other the photographs of each subject are.
        text: the name of the metric that compares with prompts, shown in every table.
    """
    metrics = list(next(iter(scores.values()))[0])
    drawn = {name: _by_subject(scores, name) for name in metrics}
    real = {name: _by_subject({s: [row] for s, row in photographs.items()}, name) for name in metrics if name != text}
    return [_table(variant, (*_of(variant, metrics), text), drawn, real) for variant in VARIANTS]


def as_text(cell: Estimate | float | None) -> str:
    """A cell as a person reads it."""
    return "" if cell is None else str(cell) if isinstance(cell, Estimate) else f"{cell:.3f}"


def _table(
    variant: str, metrics: tuple[str, ...], drawn: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]
) -> Table:
    ceiling = {name: _estimate(real[name]) if name in real else None for name in metrics}
    rows = [
        TableRow("this model", {name: _estimate(drawn[name]) for name in metrics}),
        TableRow("real photographs, among themselves", ceiling),
    ]
    for row in PUBLISHED[variant]:
        if set(row.scores) <= set(metrics):
            cells = {name: row.scores.get(name) for name in metrics}
            rows.append(TableRow(f"{row.method} ({row.source})", cells, by_others=True))
    return Table(variant, metrics, rows)


def _of(variant: str, metrics: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in metrics if name.endswith(f"_{variant}"))


def _by_subject(scores: Mapping[str, Sequence[Row]], metric: str) -> np.ndarray:
    """The mean of each subject's pictures, where the metric applies to any."""
    values = [[value for row in rows if (value := row[metric]) is not None] for rows in scores.values()]
    return np.array([np.mean(own) for own in values if own])


def _estimate(subjects: np.ndarray) -> Estimate | None:
    """The mean of subjects' means. Subjects are resampled, with all their pictures: these are no independent draws."""
    return mean(subjects) if len(subjects) else None
