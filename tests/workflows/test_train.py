"""`realcustom train`: which adapter becomes the version."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.config import Config
from components.model.adapter import RealCustomAdapter
from components.model.pipeline import RealCustomPipeline
from components.registry import versions
from components.training.launch import TrainedAdapter
from components.training.tracker import Tracker
from tests.fixtures.prepared_dataset import write_prepared
from workflows import train as workflow


@pytest.mark.parametrize("validated", [True, False])
def test_the_best_adapter_becomes_the_version(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], validated: bool
) -> None:
    write_prepared(config.training.dataset, {("train", "64x64"): 1})
    made = RealCustomPipeline.from_config(config).adapter
    for name in ("last", "best"):
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        made.save_pretrained(tmp_path / name)

    def train(config: Config, tracker: Tracker) -> TrainedAdapter:
        run = tracker.start_run("adapter", {}, config.training.dataset)
        tracker.finish_run(run)
        return TrainedAdapter(tmp_path / "last", run, "0123456789abcdef", tmp_path / "best" if validated else None)

    monkeypatch.setattr(workflow, "train", train)
    workflow.run(config)
    chosen = tmp_path / ("best" if validated else "last")
    version = versions.resolve(config, f"models:/{config.registry.model}/1")
    digests = {name: RealCustomAdapter.from_pretrained(tmp_path / name).digest for name in ("last", "best")}
    assert RealCustomAdapter.from_pretrained(version.path).digest == digests[chosen.name]
    assert digests["last"] != digests["best"]
    assert version.tags["fingerprint"] == "0123456789abcdef"
    said = f"{'best by validation loss, ' if validated else ''}adapter in {chosen}"
    assert capsys.readouterr().out == f"registered {version.uri} ({said})\n"
