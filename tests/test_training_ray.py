"""The training run over Ray: from a prepared dataset to a logged, registered adapter."""

from __future__ import annotations

from components.config import Config
from components.data.prepare import prepare
from components.model.adapter import RealCustomAdapter
from components.registry import tracking
from components.training.launch import train
from components.world.write import write_world


def test_a_prepared_world_becomes_an_adapter(config: Config, ray_cluster: None) -> None:
    small = config.model_copy(
        update={
            "world": config.world.model_copy(update={"identities": 8, "pictures_per_identity": 2}),
            "data": config.data.model_copy(update={"encoders": 1, "validation_share": 0.0}),
            "training": config.training.model_copy(
                update={"workers": 1, "steps": 4, "batch_size": 4, "checkpoint_every": 2, "sample_every": 4}
            ),
            "sampling": config.sampling.model_copy(update={"steps": 2}),
        }
    )
    write_world(small.world, seed=1)
    prepare(small)
    trained = train(small)

    adapter = RealCustomAdapter.from_pretrained(trained.adapter)
    assert any(layer.to_v_vision.weight.any() for layer in adapter.layers.values())  # it started from zero
    store = tracking.client(small.registry)
    run = store.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert [m.step for m in store.get_metric_history(trained.run_id, "loss")] == [4]
    assert run.data.params["training.steps"] == "4"
    assert [a.path for a in store.list_artifacts(trained.run_id, "samples")] == ["samples/step_000004.png"]

    again = train(small)  # the same settings: nothing is left to do, and the run is the same
    assert (again.run_id, again.fingerprint) == (trained.run_id, trained.fingerprint)
    assert RealCustomAdapter.from_pretrained(again.adapter).digest == adapter.digest
