"""What the benchmark of full size runs, reuses and prints, and its measurement of a whole call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fullsize
from benchmarks.alternating import whole_call
from benchmarks.peers.inputs import toy_inputs
from benchmarks.picture import toy_picture_implementations
from components.config import Config, load_config
from components.evaluation.toybench import cases
from components.rehearsal import code_version as versions
from components.rehearsal.code_version import code_version
from components.rehearsal.report import Report, StageReport
from components.rehearsal.run import make_inputs
from components.rehearsal.settings import Places
from components.rehearsal.stages import stages

COMPARED = {"ours_over_stock": 1.0, "spread": {}, "images_per_s": 0.01, "generation_memory_gib": 9.0}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was run: rehearsals by their overrides and stages, inputs, comparisons."""
    found: list[tuple[Any, ...]] = []

    def rehearsed(
        preset: str, output: Path, weights: Path | None, overrides: Sequence[str] = (), only: Sequence[str] = ()
    ) -> Report:
        found.append(("rehearse", tuple(overrides), tuple(only)))
        stored = StageReport(seconds=1, peak_gb=1, values={"ready_s": 60.0, "row_mb.all": 8.0})
        return Report(commit="abc", preset=preset, settings="s", machine={}, stages={"serve": stored})

    def compared(*arguments: Any) -> dict[str, Any]:
        found.append(("compare", *arguments[1:]))
        return COMPARED

    monkeypatch.setattr(fullsize.rehearse, "run", rehearsed)
    monkeypatch.setattr(fullsize, "compare_at_full_size", compared)
    monkeypatch.setattr(fullsize, "make_inputs", lambda *arguments: found.append(("inputs",)))
    monkeypatch.setattr(fullsize, "code_version", lambda: "abc")
    return found


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return last


def test_all_parts_are_run_and_a_stored_comparison_is_reused(
    tmp_path: Path, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    fullsize.main(tmp_path, None, "cpu", 2, None, True)
    extra = ("inputs", "convert", "encodings")
    assert calls == [
        ("rehearse", (), ()), ("rehearse", (), extra), ("inputs",), ("compare", 2, "cpu", 64, 8)
    ]  # fmt: skip
    report = printed(capsys)
    assert report["ready_s"] == 60 and report["row_mb"] == {"all": 8.0} and report["generation"] == COMPARED
    assert {name: report[name] for name in COMPARED} == COMPARED
    fullsize.main(tmp_path, None, "cpu", 2, ["comparison"], True)
    assert len(calls) == 4 and set(printed(capsys)) == {*COMPARED, "generation"}


def test_parts_are_run_by_themselves(
    tmp_path: Path, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    fullsize.main(tmp_path, None, "cpu", 2, ["encodings"], False)
    assert calls == [("rehearse", (), ("inputs", "convert", "encodings"))]
    with pytest.raises(SystemExit):
        fullsize.main(tmp_path, None, "cpu", 2, ["nothing"], False)
    assert "--only nothing: choose among rehearsal, encodings, comparison" in capsys.readouterr().err


def test_a_gpu_trains_at_the_batch_size_of_the_preset(
    tmp_path: Path, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fullsize.torch.cuda, "is_available", lambda: True)
    fullsize.main(tmp_path, None, "cuda", 2, None, False)
    (_, overrides, only), *rest = calls
    assert f"training.batch_size={load_config('sdxl').training.batch_size}" in overrides
    assert set(only) < set(stages(True)) and only[-1] == "train"
    assert rest == [("inputs",), ("compare", 2, "cuda", 128, 25)]


@pytest.mark.parametrize("commit", ["unknown", "0123456789ab-dirty"])
def test_changed_code_has_a_version_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: str) -> None:
    file = tmp_path / "components" / "a.py"
    file.parent.mkdir()
    file.write_text("a = 1\n")
    monkeypatch.setattr(versions, "git_commit", lambda: commit)
    first = code_version(tmp_path)
    assert first.startswith(f"{commit}-") and code_version(tmp_path) == first
    file.write_text("a = 2\n")
    assert code_version(tmp_path) != first
    monkeypatch.setattr(versions, "git_commit", lambda: "0123456789ab")
    assert code_version(tmp_path) == "0123456789ab"


def test_a_comparison_writes_its_own_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(tmp_path / "tiny", tmp_path / "weights")
    monkeypatch.setattr("components.rehearsal.head_node.HeadNode.running", None)  # Ray is not started
    make_inputs("tiny", places, "cpu")
    assert (places.pictures / "pairs.jsonl").exists() and (places.pictures / "table.jsonl").exists()


def test_a_whole_call_is_timed(config: Config) -> None:
    stock, ours = toy_picture_implementations(config, toy_inputs(config, cases(1, 0, config)))
    short, long = (whole_call(ours, steps, "cpu") for steps in (1, 20))
    assert short["images_per_s"] and long["images_per_s"] and short["images_per_s"] > long["images_per_s"] > 0
    assert long["generation_memory_gib"] is None or long["generation_memory_gib"] > ours.weights_mib / 1024 > 0
    assert ours.weights_mib > stock.weights_mib > 0, "the adapter's weights count"
