"""The journal: every step once, in order, however often MLflow or its own process fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest

from components.config import Config
from components.registry import tracking
from components.registry.tracker import MlflowTracker
from components.training.journal import Entry, Journal, deliver_to


class Store:
    """Takes entries, unless it is ``down``."""

    def __init__(self) -> None:
        self.down = False
        self.taken: list[int] = []

    def __call__(self, entries: Sequence[Entry]) -> None:
        if self.down:
            raise ConnectionError("no store")
        self.taken += [entry.step for entry in entries]


def test_metrics_arrive_in_order(tmp_path: Path) -> None:
    store = Store()
    journal = Journal(tmp_path / "a.journal.jsonl", store)
    for step in range(1, 50):
        journal.metrics(step, {"loss": 1 / step})
    assert journal.close()
    assert store.taken == list(range(1, 50))


def test_nothing_waits_for_a_store_that_is_down_and_nothing_is_lost(tmp_path: Path) -> None:
    store, file = Store(), tmp_path / "a.journal.jsonl"
    store.down = True
    journal, began = Journal(file, store), time.monotonic()
    for step in range(1, 30):
        journal.metrics(step, {"loss": 1.0})
    assert time.monotonic() - began < 1
    assert not journal.close(timeout=5)
    with pytest.raises(ConnectionError):
        Journal(file, store).flush()
    store.down = False
    Journal(file, store).flush()
    Journal(file, store).flush()
    assert store.taken == list(range(1, 30))


def test_a_store_that_comes_back_is_told_without_being_asked(tmp_path: Path) -> None:
    store = Store()
    store.down = True
    journal = Journal(tmp_path / "a.journal.jsonl", store)
    journal.metrics(1, {"loss": 1.0})
    time.sleep(0.2)
    store.down = False
    until = time.monotonic() + 10
    while not store.taken and time.monotonic() < until:
        time.sleep(0.05)
    assert store.taken == [1] and journal.close()


def test_steps_that_are_trained_again_are_not_written_again(tmp_path: Path) -> None:
    store, file = Store(), tmp_path / "a.journal.jsonl"
    first = Journal(file, store)
    for step in (10, 20, 30):
        first.metrics(step, {"loss": 1.0})
    first.close()
    resumed = Journal(file, store)  # from the checkpoint of step 15
    for step in (20, 30, 40):
        resumed.metrics(step, {"loss": 2.0})
    resumed.artifact(20, file, "samples")
    assert resumed.close()
    assert store.taken == [10, 20, 30, 40, 20]


def test_a_line_that_was_cut_off_is_forgotten(tmp_path: Path) -> None:
    store, file = Store(), tmp_path / "a.journal.jsonl"
    journal = Journal(file, store)
    journal.metrics(1, {"loss": 1.0})
    journal.close()
    with file.open("a") as stream:
        stream.write('{"step": 2, "tim')
    again = Journal(file, store)
    again.metrics(2, {"loss": 1.0})
    assert again.close()
    assert [entry.step for entry in Journal(file, store)._entries] == [1, 2] == store.taken


def test_delivering_again_changes_nothing_in_mlflow(config: Config, tmp_path: Path) -> None:
    tracker = MlflowTracker(config)
    store = tracker.store
    run_id = store.create_run(tracking.experiment_id(config.registry, store)).info.run_id
    deliver, file = deliver_to(tracker, run_id), tmp_path / "a.journal.jsonl"
    picture = tmp_path / "step_000010.png"
    picture.write_bytes(b"a picture")
    journal = Journal(file, deliver)
    journal.metrics(10, {"loss": 1.0, "learning_rate": 1e-4})
    journal.artifact(10, picture, "samples")
    assert journal.close()
    file.with_suffix(".delivered").unlink()  # it was killed after the delivery, before it noted that
    Journal(file, deliver).flush()
    assert [(m.step, m.value) for m in store.get_metric_history(run_id, "loss")] == [(10, 1.0)]
    assert [a.path for a in mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path="samples")] == [
        "samples/step_000010.png"
    ]
