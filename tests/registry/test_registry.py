"""Versions in the MLflow registry: found by alias, refused clearly, loaded back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import Config
from components.data.prepare import Prepared
from components.errors import RegistryError
from components.model.pipeline import RealCustomPipeline
from components.registry import dataset_runs, tracking, versions
from tests.fixtures.prepared_dataset import write_prepared
from workflows.prepare import prepare_and_log


def test_an_adapter_goes_into_the_registry_and_comes_back_by_alias(config: Config, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="not in the registry"):
        versions.resolve(config, "models:/realcustom-tiny@champion")
    with pytest.raises(RegistryError, match="has no version"):
        versions.newest(config)

    adapter = RealCustomPipeline.from_config(config).adapter
    adapter.save_pretrained(tmp_path / "adapter")
    with tracking.run(config, "test", {"steps": 1}) as run_id:
        first = versions.register(config, tmp_path / "adapter", run_id, {"fingerprint": "aa"})
        second = versions.register(config, tmp_path / "adapter", run_id, {"fingerprint": "bb"})
    assert (first.version, second.version) == ("1", "2")
    versions.set_alias(config, first)
    found = versions.resolve(config, "models:/realcustom-tiny@champion")
    assert found.version == "1"
    assert found.tags["fingerprint"] == "aa"
    assert versions.newest(config).version == "2"
    by_tag = versions.find_by_tag(config, "fingerprint", "bb")
    assert by_tag is not None and by_tag.version == "2"
    assert versions.find_by_tag(config, "fingerprint", "cc") is None

    loaded = versions.load_pipeline(config, "models:/realcustom-tiny@champion")
    assert loaded.adapter.digest == adapter.digest
    run = tracking.client(config.registry).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["steps"] == "1"
    assert "git_commit" in run.data.tags


def test_a_failed_run_is_marked_failed(config: Config) -> None:
    ids = []
    with pytest.raises(ZeroDivisionError), tracking.run(config, "test", {}) as run_id:
        ids.append(run_id)
        1 / 0  # noqa: B018
    assert tracking.client(config.registry).get_run(ids[0]).info.status == "FAILED"


def test_a_prepared_dataset_is_the_input_of_one_run(config: Config, tmp_path: Path) -> None:
    manifest = write_prepared(tmp_path / "dataset", {("train", "64x64"): 3})
    run_id = dataset_runs.record_preparation(config, tmp_path / "dataset", manifest)
    assert dataset_runs.record_preparation(config, tmp_path / "dataset", manifest) == run_id
    run = tracking.client(config.registry).get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics["rows_out"] == 3
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("dataset", manifest.fingerprint)
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "preparation"}
    assert (tmp_path / "dataset").as_uri() in given.dataset.source


def test_without_a_registry_the_dataset_stands(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_prepared(tmp_path / "dataset", {("train", "64x64"): 3})
    prepared = Prepared(tmp_path / "dataset", manifest, reused=False)
    monkeypatch.setattr("workflows.prepare.prepare", lambda config: prepared)
    registry = config.registry.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    assert prepare_and_log(config.model_copy(update={"registry": registry})) == prepared
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "workflows.prepare"]
    assert "not logged to MLflow: registry.tracking_uri: http://127.0.0.1:9 cannot be used" in warning


@pytest.mark.parametrize("uri", ["realcustom-tiny@champion", "models:/x", "models:/x/latest", "models:/x@"])
def test_a_malformed_uri_is_refused(config: Config, uri: str) -> None:
    with pytest.raises(RegistryError, match="write it as"):
        versions.resolve(config, uri)
