"""`prepare` asks for a preset where a user's own data would be prepared with the miniature's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from components.config import Config, load_config
from components.world.write import write_world
from workflows import prepare as stage
from workflows.cli import app


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Config]:
    """The configurations that reach the preparation itself."""
    seen: list[Config] = []

    class Result:
        directory, reused = tmp_path, True

    def note(config: Config) -> Any:
        seen.append(config)
        return Result()

    monkeypatch.setattr(stage, "prepare_and_log", note)
    monkeypatch.setattr(stage, "summary", lambda result: "")
    monkeypatch.chdir(tmp_path)
    return seen


def _photographs(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (900, 700), "red").save(folder / "dog.jpg")
    (folder / "pairs.jsonl").write_text(json.dumps({"image": "dog.jpg", "caption": "a dog"}) + "\n")


def test_own_data_need_a_named_preset(prepared: list[Config], tmp_path: Path) -> None:
    _photographs(tmp_path / "photographs")
    command = ["prepare", "--set", "data.source=photographs"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and prepared == []
    assert result.stderr.splitlines() == [
        "error: data.source photographs is not the toy world, so name a preset, which decides the size of the "
        "training images: --preset sdxl (1024 px) or --preset tiny (64 px)"
    ]
    (tmp_path / "mine.yaml").write_text("preset: sdxl\n")
    for named in (["--preset", "tiny"], ["--config", "mine.yaml"]):
        assert CliRunner().invoke(app, [*command, *named]).exit_code == 0
    assert [(config.preset, config.data.image_size) for config in prepared] == [("tiny", 64), ("sdxl", 1024)]


def test_own_data_in_the_toy_worlds_place_need_a_named_preset(prepared: list[Config], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    _photographs(tmp_path / "runs" / "raw")
    result = CliRunner().invoke(app, ["prepare"])
    assert (result.exit_code, prepared) == (2, [])
    assert "name a preset" in result.stderr


def test_the_toy_world_needs_none(prepared: list[Config], tmp_path: Path) -> None:
    write_world(load_config("tiny", ["world.identities=2", "world.output=elsewhere"]).world, seed=1)
    result = CliRunner().invoke(app, ["prepare", "--set", "data.source=elsewhere"])
    assert result.exit_code == 0, result.output
    assert (
        CliRunner().invoke(app, ["prepare", "--set", "data.format=world", "--set", "data.source=s3://b/w"]).exit_code
        == 0
    )
    assert [config.preset for config in prepared] == ["tiny", "tiny"]
