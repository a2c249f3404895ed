"""The MLflow tracker over a real store: one client a process, one run, no value twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from components.config import Config
from components.errors import RegistryError
from components.model.pipeline import RealCustomPipeline
from components.registry import origin, tracking, versions
from components.registry.tracker import MlflowTracker
from components.training.tracker import MetricPoint, Tracker
from tests.fixtures.prepared_dataset import write_prepared


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The URIs that clients were made for."""
    made: list[str] = []

    class CountedClient(MlflowClient):
        def __init__(self, uri: str) -> None:
            made.append(uri)
            super().__init__(uri)

    monkeypatch.setattr(tracking, "MlflowClient", CountedClient)
    yield made


def test_a_run_is_recorded_and_registered_through_one_client(
    config: Config, tmp_path: Path, clients: list[str]
) -> None:
    manifest = write_prepared(tmp_path / "dataset", {("train", "64x64"): 3})
    sample = tmp_path / "step_000010.png"
    sample.write_bytes(b"a picture")
    made = MlflowTracker(config)
    tracker: Tracker = made
    run_id = tracker.start_run("adapter", {"training.steps": 20}, tmp_path / "dataset")
    tracker.log_figure(run_id, Figure(), "plots/curriculum.png")
    points = [MetricPoint("loss", 1 / step, step, 1000 + step) for step in (10, 20)]
    for _ in range(2):  # a delivery that is repeated changes nothing
        tracker.log_metrics(run_id, points)
        tracker.log_artifact(run_id, sample, "samples")
    tracker.finish_run(run_id)
    RealCustomPipeline.from_config(config).adapter.save_pretrained(tmp_path / "adapter")
    version = versions.register(config, tmp_path / "adapter", run_id, {}, made.store)
    assert clients == [config.registry.absolute_uri]

    run = made.store.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "adapter")
    assert run.data.params == {"training.steps": "20"}
    assert [(m.step, m.value) for m in made.store.get_metric_history(run_id, "loss")] == [(10, 0.1), (20, 0.05)]
    assert [a.path for a in made.store.list_artifacts(run_id, "samples")] == ["samples/step_000010.png"]
    assert {a.path for a in made.store.list_artifacts(run_id, "plots")} == {"plots/curriculum.png", "plots/curves.png"}
    assert version.tags[origin.DATASET] == manifest.fingerprint == run.data.tags[origin.DATASET]


def test_a_worker_writes_to_the_same_run(config: Config, tmp_path: Path) -> None:
    write_prepared(tmp_path / "dataset", {("train", "64x64"): 3})
    driver = MlflowTracker(config)
    run_id = driver.start_run("adapter", {}, tmp_path / "dataset")
    worker = driver.factory()
    with worker.system_metrics(run_id):
        worker.log_metrics(run_id, [MetricPoint("loss", 0.5, 10, 1000)])
    driver.fail_run(run_id)
    assert driver.store.get_run(run_id).data.metrics["loss"] == 0.5
    assert driver.store.get_run(run_id).info.status == "FAILED"
    driver.resume_run(run_id)
    assert driver.store.get_run(run_id).info.status == "RUNNING"


def test_a_store_that_cannot_be_used_is_named_without_its_password(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = config.registry.model_copy(update={"tracking_uri": "http://ann:hunter2@127.0.0.1:9"})
    tracker = MlflowTracker(config.model_copy(update={"registry": registry}))
    with pytest.raises(RegistryError, match=r"registry\.tracking_uri: http://ann:\*\*\*@127\.0\.0\.1:9") as raised:
        tracker.log_metrics("r", [MetricPoint("loss", 0.5, 10, 1000)])
    assert "hunter2" not in str(raised.value)
