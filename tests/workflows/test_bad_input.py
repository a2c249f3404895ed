"""Whatever is wrong with what a user gives: one line that says so, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from workflows.cli import app


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "pairs.jsonl").touch()
    (tmp_path / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "fine.png")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--preset", "huge"], "huge"),
        (["train", "--set", "training.stepz=3"], "training.stepz"),
        (["train", "--set", "training.steps=none at all"], "training.steps"),
        (["train", "--set", "training.dataset=nowhere"], "nowhere"),
        (["prepare", "--set", "data.source=nowhere"], "nowhere"),
        (["prepare", "--preset", "tiny", "--set", "data.source=empty"], "empty"),
        (["prepare", "--set", "data.source=empty"], "--preset sdxl (1024 px)"),
        (["prepare", "--set", "data.source=s3://bucket/photographs"], "--preset tiny (64 px)"),
        (["quickstart", "--set", "data.source=empty"], "realcustom prepare"),
        (["register", "--adapter", "nowhere"], "nowhere"),
        (["register", "--adapter", "empty"], "empty is no adapter"),
        (["promote"], "realcustom-tiny"),
        (["evaluate", "--set", "registry.alias=unheard-of"], "unheard-of"),
        (["generate", "--prompt", "a cat"], "champion"),
        (["generate", "--prompt", "a cat", "--sampler", "plms"], "choose one of ddim"),
        (["generate", "--prompt", "a cat", "--sampler", "lcm", "--steps", "51"], "at most 50"),
        (["generate", "--prompt", "a cat", "--lora", "ink=much"], "write ink=0.8"),
        (["generate", "--prompt", "a cat", "--lora", "ink", "--lora", "ink=1"], "name each LoRA once"),
        (["generate", "--prompt", "a cat", "--lora", "ink"], "add it with --set model.loras.ink=PATH"),
        (["generate", "--prompt", "a cat", "--control", "pose"], "as pose=pose.png"),
        (["generate", "--prompt", "a cat", "--control", "pose=fine.png"], "model.controls does not name 'pose'"),
        (["generate", "--prompt", "x", "--control", "a=fine.png", "--control-start", "1"], "less than the end"),
        (
            ["generate", "--prompt", "x", "--control", "a=missing.png", "--set", "model.controls.a=there"],
            "control missing.png cannot be read",
        ),
        (
            ["generate", "--prompt", "x", "--control", "a=corrupt.png", "--set", "model.controls.a=there"],
            "control corrupt.png:",
        ),
        (["generate", "--prompt", "a cat", "--word", "cat"], "reference"),
        (["generate", "--prompt", "a cat", "--word", "catt", "--reference", "fine.png"], "'cat'"),
        (["generate", "--prompt", "a cat", "--reference", "missing.png"], "missing.png"),
        (["generate", "--prompt", "a cat", "--word", "cat", "--reference", "missing.png"], "missing.png"),
        (["generate", "--prompt", "a cat", "--word", "cat", "--reference", "corrupt.png"], "corrupt.png"),
        (["generate", "--prompt", "x", "--reference", "fine.png", "--box", "0,0,65,64"], "box: not inside"),
        (["generate", "--prompt", "x", "--reference", "fine.png", "--box", "all"], "left,top,right,bottom"),
        (["generate", "--prompt", "x", "--reference", "fine.png", "--mask", "corrupt.png"], "white on the subject"),
        (["generate", "--prompt", "x", "--reference", "fine.png", "--mask", "missing.png"], "missing.png"),
    ],
)
def test_one_clear_line_and_exit_code_2(here: Path, arguments: list[str], named: str) -> None:
    before = {p for p in here.rglob("*") if "runs" not in p.parts}
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert named in lines[0]
    assert "Traceback" not in result.output
    assert {p for p in here.rglob("*") if "runs" not in p.parts} == before
    assert not list(here.rglob("*.parquet")) and not list(here.rglob("*.partial"))
