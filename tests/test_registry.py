"""Versions in the MLflow registry: found by alias, refused clearly, loaded back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import Config
from components.errors import RegistryError
from components.model.pipeline import RealCustomPipeline
from components.registry import tracking, versions


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


@pytest.mark.parametrize("uri", ["realcustom-tiny@champion", "models:/x", "models:/x/latest", "models:/x@"])
def test_a_malformed_uri_is_refused(config: Config, uri: str) -> None:
    with pytest.raises(RegistryError, match="write it as"):
        versions.resolve(config, uri)
