"""The training run over Ray: from a prepared dataset to a logged, registered adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from components.config import Config
from components.data.prepare import prepare
from components.model.adapter import RealCustomAdapter
from components.registry import tracking
from components.registry.tracker import MlflowTracker
from components.training.launch import train
from components.world.write import write_world
from tests.fakes.tracker import RecordingTracker
from tests.fixtures.dreambench import COLORS, write_dreambench


def small_world(config: Config) -> Config:
    """Sixteen pictures and four steps."""
    return config.model_copy(
        update={
            "world": config.world.model_copy(update={"identities": 8, "pictures_per_identity": 2}),
            "data": config.data.model_copy(update={"encoders": 1, "validation_share": 0.0}),
            "training": config.training.model_copy(
                update={"workers": 1, "steps": 4, "batch_size": 4, "checkpoint_every": 2, "sample_every": 4}
            ),
            "sampling": config.sampling.model_copy(update={"steps": 2}),
        }
    )


def test_a_prepared_world_becomes_an_adapter(config: Config, ray_cluster: None) -> None:
    small = small_world(config)
    write_world(small.world, seed=1)
    prepare(small)
    trained = train(small, MlflowTracker(small))

    adapter = RealCustomAdapter.from_pretrained(trained.adapter)
    assert any(layer.to_v_vision.weight.any() for layer in adapter.layers.values())  # it started from zero
    store = tracking.client(small.registry)
    run = store.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert [m.step for m in store.get_metric_history(trained.run_id, "loss")] == [4]
    assert run.data.params["training.steps"] == "4"
    assert [a.path for a in store.list_artifacts(trained.run_id, "samples")] == ["samples/step_000004.png"]


@pytest.mark.slow
def test_a_shallow_adapter_is_prepared_for_trained_and_shown(config: Config, tmp_path: Path, ray_cluster: None) -> None:
    """Its blocks are columns of the dataset. Sample grids show subjects of a folder of photographs."""
    small = small_world(config)
    folder = write_dreambench(tmp_path / "dreambench", ("cat", "robot"))
    small = small.model_copy(
        update={
            "vision": small.vision.model_copy(update={"siglip_shallow": (0, 1), "dinov2_shallow": (0, 1)}),
            "adapter": small.adapter.model_copy(update={"projector": "shallow"}),
            "training": small.training.model_copy(update={"sample_references": folder, "sample_columns": 2}),
        }
    )
    write_world(small.world, seed=1)
    assert prepare(small).manifest.holds("shallow")
    tracker = RecordingTracker(tmp_path / "calls.jsonl")
    trained = train(small, tracker)
    adapter = RealCustomAdapter.from_pretrained(trained.adapter)
    assert adapter.projector_config.projector == "shallow" and adapter.token_sets == 2
    assert any(layer.to_v_vision.weight.any() for layer in adapter.layers.values())
    (grid,) = small.training.output.glob("*.samples/*.png")
    with Image.open(grid) as image:
        references = [image.getpixel((image.width * (2 * column + 1) // 4, image.height // 8)) for column in (0, 1)]
    assert references == [COLORS[0], COLORS[1]]


@pytest.mark.slow
def test_a_finished_training_is_not_trained_again(config: Config, ray_cluster: None) -> None:
    small = small_world(config)
    write_world(small.world, seed=1)
    prepare(small)
    first, again = (train(small, MlflowTracker(small)) for _ in range(2))
    assert (again.run_id, again.fingerprint) == (first.run_id, first.fingerprint)
    digests = {RealCustomAdapter.from_pretrained(each.adapter).digest for each in (first, again)}
    assert len(digests) == 1


@pytest.mark.slow
def test_pictures_of_three_shapes_train_one_adapter_on_two_workers(config: Config, ray_cluster: None) -> None:
    small = config.model_copy(
        update={
            "world": config.world.model_copy(update={"identities": 12, "pictures_per_identity": 2}),
            "data": config.data.model_copy(
                update={"encoders": 1, "validation_share": 0.0, "max_aspect": 2.0, "bucket_step": 16}
            ),
            "training": config.training.model_copy(
                update={"workers": 2, "steps": 6, "batch_size": 4, "checkpoint_every": 3, "sample_every": 6}
            ),
            "sampling": config.sampling.model_copy(update={"steps": 2}),
        }
    )
    write_world(small.world, seed=1)
    _reshape(Path(small.data.source))
    buckets = prepare(small).manifest.buckets["train"]
    assert len(buckets) == 3 and min(buckets.values()) < 8 < max(buckets.values())  # one is not split among workers
    trained = train(small, MlflowTracker(small))
    history = tracking.client(small.registry).get_metric_history(trained.run_id, "loss")
    assert [metric.step for metric in history] == [6] and history[0].value > 0
    assert RealCustomAdapter.from_pretrained(trained.adapter).digest


def _reshape(source: Path) -> None:
    """Make every third picture of a world wide, a few tall, and forget where their subjects were."""
    rows = [json.loads(line) for line in (source / "pairs.jsonl").read_text().splitlines()]
    for place, row in enumerate(rows):
        if place % 3 == 0 or place % 10 == 1:
            picture = Image.open(source / row["image"])
            width, height = picture.size
            wide, tall = (0, height // 4, width, height * 7 // 8), (width // 4, 0, width * 7 // 8, height)
            picture.crop(wide if place % 3 == 0 else tall).save(source / row["image"])
            for field in ("mask", "box", "head_box"):
                row.pop(field, None)
    (source / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
