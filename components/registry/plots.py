"""The metrics of a run as curves in one image."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from mlflow import MlflowClient
from numpy.typing import NDArray

_FILE = "plots/curves.png"
_COLUMNS = 3
#: Share of a curve's points that its running mean covers.
_WINDOW = 0.05


def log_curves(store: MlflowClient, run_id: str) -> None:
    """Plot every metric of the run that has several steps into ``plots/curves.png`` of its artifacts."""
    names = [name for name in store.get_run(run_id).data.metrics if not name.startswith("system/")]
    curves = {name: _history(store, run_id, name) for name in sorted(names)}
    figure = draw_curves({name: curve for name, curve in curves.items() if len(curve) > 1})
    if figure is not None:
        store.log_figure(run_id, figure, _FILE)


def draw_curves(curves: dict[str, NDArray[np.float64]]) -> Figure | None:
    """A panel a curve: its values, and over them their running mean; None if there is no curve.

    Args:
        curves: by name, [n, 2] of steps and values, by step.
    """
    if not curves:
        return None
    columns, rows = min(_COLUMNS, len(curves)), math.ceil(len(curves) / _COLUMNS)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    for place, (name, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        steps, values = curve.T
        axes.plot(steps, values, linewidth=0.8, alpha=0.4)
        axes.plot(steps, running_mean(values), linewidth=1.6, color="C0")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
    return figure


def running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the neighbours of each of the values [n], as many on either side as the ends allow."""
    reach = math.ceil(_WINDOW * len(values) / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    near = np.minimum(reach, np.minimum(index, len(values) - 1 - index))
    return (sums[index + near + 1] - sums[index - near]) / (2 * near + 1)


def _history(store: MlflowClient, run_id: str, name: str) -> NDArray[np.float64]:
    """[n, 2] of steps and finite values; the latest value of each step."""
    points = sorted(store.get_metric_history(run_id, name), key=lambda point: (point.step, point.timestamp))
    values = {point.step: point.value for point in points if math.isfinite(point.value)}
    return np.array(list(values.items()), np.float64).reshape(-1, 2)
