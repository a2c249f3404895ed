"""Training and its tracker: what the driver records, and what happens while the store is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import Config
from components.errors import RegistryError
from components.training.journal import Journal, deliver_to
from components.training.launch import _flush, _open_run
from components.training.run_directory import RunDirectory
from tests.fakes.tracker import RecordingTracker


@pytest.fixture
def tracker(tmp_path: Path) -> RecordingTracker:
    return RecordingTracker(tmp_path / "calls.jsonl")


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path, "adapter")


def test_a_run_is_started_once_and_resumed_after(
    config: Config, run_directory: RunDirectory, tracker: RecordingTracker
) -> None:
    run_id = _open_run(config, run_directory, tracker)
    assert _open_run(config, run_directory, tracker) == run_id == run_directory.run.read_text()
    assert tracker.names() == ["created", "start_run", "log_figure", "resume_run"]
    started = tracker.calls[1]
    assert started["name"] == "adapter" and started["dataset"] == str(config.training.dataset)
    assert started["parameters"]["training.steps"] == config.training.steps


def test_a_run_that_cannot_be_started_leaves_none_to_resume(
    config: Config, run_directory: RunDirectory, tracker: RecordingTracker, tmp_path: Path
) -> None:
    (tmp_path / "calls.down").touch()
    with pytest.raises(RegistryError, match="down"):
        _open_run(config, run_directory, tracker)
    assert not run_directory.run.exists()


def test_entries_are_delivered_as_points_and_files(run_directory: RunDirectory, tracker: RecordingTracker) -> None:
    picture = run_directory.root / "step_000010.png"
    journal = Journal(run_directory.journal, deliver_to(tracker, "r"))
    journal.metrics(10, {"loss": 0.5, "workers": 2})
    journal.artifact(10, picture, "samples")
    assert journal.close()
    points = [point for call in tracker.calls if call["call"] == "log_metrics" for point in call["points"]]
    assert [(p["name"], p["value"], p["step"]) for p in points] == [("loss", 0.5, 10), ("workers", 2, 10)]
    (uploaded,) = [call for call in tracker.calls if call["call"] == "log_artifact"]
    assert (uploaded["run_id"], uploaded["file"], uploaded["folder"]) == ("r", picture.name, "samples")


def test_a_store_that_is_down_at_the_end_gets_its_entries_from_the_next_run(
    run_directory: RunDirectory, tracker: RecordingTracker, caplog: pytest.LogCaptureFixture
) -> None:
    down = run_directory.root / "calls.down"
    down.touch()
    journal = Journal(run_directory.journal, deliver_to(tracker, "r"))
    journal.metrics(10, {"loss": 0.5})
    assert not journal.close(timeout=0.5)
    assert not _flush(tracker, run_directory, "r")
    assert str(run_directory.journal) in caplog.text and "run the same command again" in caplog.text
    down.unlink()
    assert _flush(tracker, run_directory, "r")
    assert tracker.names() == ["created", "log_metrics"]
