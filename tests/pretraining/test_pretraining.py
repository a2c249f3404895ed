"""The miniature from nothing, in a few steps a part: every stage hands the next one what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import load_config
from components.model.pipeline import RealCustomPipeline
from components.pretraining.run import pretrain

PARTS = ("vae", "decoder", "siglip", "dinov2", "recognizer", "evaluation_identity", "base")


@pytest.mark.slow
def test_a_whole_miniature_is_trained_and_loads(tmp_path: Path) -> None:
    steps = [f"pretraining.steps.{part}=2" for part in PARTS]
    sizes = ["pretraining.scenes=250", "pretraining.identities=250", f"pretraining.output={tmp_path / 'mini'}"]
    config = load_config("tiny", [*steps, *sizes, f"pretraining.work={tmp_path / 'work'}"])
    made = pretrain(config)
    again = pretrain(config)  # every stage is finished: nothing is trained twice
    assert again.root == made.root
    parts = [f"model.{name}={made.root / name}" for name in ("base", "siglip", "dinov2")]
    pipeline = RealCustomPipeline.from_config(load_config("tiny", [*parts, "model.adapter=null"]))
    assert pipeline("a cat", num_inference_steps=1, height=64, width=64).images[0].size == (64, 64)
