"""What a run carries besides its metrics: the machine's load, curves, and no password."""

from __future__ import annotations

import json
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from PIL import Image

from components.config import Config
from components.errors import RegistryError
from components.registry import tracking, versions
from components.registry.plots import draw_curves, log_curves, running_mean
from components.registry.system_metrics import system_metrics


def artifact(config: Config, run_id: str, path: str) -> Path:
    uri = config.registry.absolute_uri
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, tracking_uri=uri))


def test_the_machines_load_is_logged_to_the_run_and_goes_on_when_it_is_resumed(config: Config) -> None:
    store = tracking.client(config.registry)
    run_id = store.create_run(tracking.experiment_id(config.registry)).info.run_id
    for _ in range(2):
        with system_metrics(config.registry, run_id, every_s=0.05):
            time.sleep(1.0)
    logged = store.get_run(run_id).data.metrics
    assert logged["system/system_memory_usage_megabytes"] > 0
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= set(logged)
    steps = [point.step for point in store.get_metric_history(run_id, "system/cpu_utilization_percentage")]
    assert len(steps) == len(set(steps)) > 2, "no step is logged twice"

    with system_metrics(config.registry, run_id, node="gpu-7", every_s=0.05):
        time.sleep(1.0)
    assert "system/gpu-7/cpu_utilization_percentage" in store.get_run(run_id).data.metrics


def test_work_goes_on_when_the_store_does_not_answer(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.registry.system_metrics._TIMEOUT", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = config.registry.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    began = time.monotonic()
    with system_metrics(registry, "no-run", every_s=0.05):
        done = 1 + 1
    assert done == 2 and time.monotonic() - began < 5


def test_the_curves_of_a_run_are_one_picture(config: Config) -> None:
    store = tracking.client(config.registry)
    run_id = store.create_run(tracking.experiment_id(config.registry)).info.run_id
    log_curves(store, run_id)
    assert store.list_artifacts(run_id) == []
    metrics = [Metric("loss", 1 / (step + 1), 0, step) for step in range(20)]
    metrics += [Metric("rate", float("nan") if step == 3 else step, 0, step) for step in range(20)]
    store.log_batch(run_id, [*metrics, Metric("once", 1.0, 0, 0)])
    log_curves(store, run_id)
    with Image.open(artifact(config, run_id, "plots/curves.png")) as picture:
        assert picture.width > picture.height > 100


def test_there_is_a_panel_a_curve() -> None:
    curves = {name: np.array([[0, 1.0], [1, 2.0]]) for name in "abcd"}
    figure = draw_curves(curves)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "d"]
    assert draw_curves({}) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=80))
def test_a_running_mean_stays_within_its_values_and_keeps_a_line(values: list[float]) -> None:
    means = running_mean(np.array(values))
    assert len(means) == len(values)
    assert means.min() >= min(values) - 1e-9 and means.max() <= max(values) + 1e-9
    line = 2.0 * np.arange(len(values)) + 1
    np.testing.assert_allclose(running_mean(line), line)


def test_no_password_is_shown_or_logged(config: Config) -> None:
    assert tracking.shown(config.registry) == config.registry.tracking_uri
    secret = "postgresql+psycopg://ann:hunter2@db.example/mlflow"
    serving = config.serving.model_copy(update={"database": secret})
    with tracking.run(config.model_copy(update={"serving": serving}), "test", {}) as run_id:
        pass
    logged = artifact(config, run_id, "config.json").read_text()
    assert "hunter2" not in logged
    assert json.loads(logged)["serving"]["database"] == "postgresql+psycopg://ann:***@db.example/mlflow"
    assert json.loads(logged)["model"]["base"] == config.model.base
    registry = config.registry.model_copy(update={"tracking_uri": "http://ann:hunter2@127.0.0.1:9"})
    assert tracking.shown(registry) == "http://ann:***@127.0.0.1:9"


def test_an_unknown_version_is_reported_without_the_password(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = config.registry.model_copy(update={"tracking_uri": "http://ann:hunter2@127.0.0.1:9"})
    with pytest.raises(RegistryError) as raised:
        versions.resolve(config.model_copy(update={"registry": registry}), "models:/m@champion")
    assert "hunter2" not in str(raised.value) and "127.0.0.1" in str(raised.value)
