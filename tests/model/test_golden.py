"""Parity with tensors recorded from the authors' code; what needs the recordings is skipped where they are absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import parity
from components.config import PACKAGE_ROOT
from components.errors import DataError

GOLDEN = PACKAGE_ROOT.parent / "shared" / "golden"
recorded = pytest.mark.skipif(not GOLDEN.is_dir(), reason="no recorded tensors beside the checkout")
PROJECTOR = "b_projector_highres.safetensors"
#: What each kind has at least.
LEAST = {"mask": 500, "projector": 3, "attention": 9, "unet": 24, "loop": 8, "scheduler": 20, "names": 3}


@recorded
@pytest.mark.parametrize("kind", parity.KINDS)
def test_ours_gives_what_was_recorded(kind: str) -> None:
    with torch.no_grad():
        cases = list(parity.KINDS[kind](GOLDEN))
    assert len(cases) >= LEAST[kind]
    assert [case for case in cases if not case.ok] == []


@recorded
def test_one_kind_alone_is_enough_and_a_difference_is_found(tmp_path: Path) -> None:
    data = load_file(GOLDEN / PROJECTOR)
    save_file(data, tmp_path / PROJECTOR)
    assert [case.ok for case in parity.compare(tmp_path)] == [True]
    data["out"][0, 0, 0] += 2e-4
    save_file(data, tmp_path / PROJECTOR)
    report = parity.report(parity.compare(tmp_path))
    assert (report["cases"], report["failed"]) == (1, 1)
    assert report["failures"][0]["name"] == "b_projector_highres"
    assert report["worst"]["projector"]["error"] == pytest.approx(2e-4, rel=0.01)


@recorded
def test_the_command_ends_with_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(golden: Path) -> int | str | None:
        monkeypatch.setattr("sys.argv", ["parity", "--json", "--golden", str(golden)])
        with pytest.raises(SystemExit) as ended:
            parity.main()
        return ended.value.code

    data = load_file(GOLDEN / PROJECTOR)
    save_file(data, tmp_path / PROJECTOR)
    assert end(tmp_path) == 0
    save_file(data | {"out": data["out"] + 1}, tmp_path / PROJECTOR)
    capsys.readouterr()
    assert end(tmp_path) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["failed"] == 1
    assert end(tmp_path / "absent") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and "absent" in said[0]


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recorded tensors"):
        parity.compare(tmp_path)


def test_a_loop_without_its_unet_names_the_missing_file(tmp_path: Path) -> None:
    save_file({"in.timesteps": torch.zeros(1)}, tmp_path / "e_loop_shallow_64x64_reuse3_maxnorm.safetensors")
    with pytest.raises(DataError, match=r"d_unet_shallow_config\.json"):
        parity.compare(tmp_path)


def test_only_open_ties_are_forgiven() -> None:
    mode = parity.MaskMode(None, scope=0.5, binary=True)
    quantity = torch.tensor([4.0, 2.0, 2.0, 1.0]).view(1, 1, 2, 2)

    def mismatched(*mask: float) -> int:
        return parity.compare_masks("mask", "", mode, quantity, torch.tensor(mask).view(1, 1, 2, 2)).mismatched

    assert mismatched(1, 1, 0, 0) == mismatched(1, 0, 1, 0) == 0
    assert mismatched(1, 1, 1, 0) == 1  # one too many
    assert mismatched(1, 0, 0, 1) == 1  # no tie
    assert mismatched(0, 1, 1, 0) == 1
