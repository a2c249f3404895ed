"""The benchmark of the driver of preparation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import metadata
from components.config import load_config


def measured(capsys: pytest.CaptureFixture[str], preset: str, rows: int) -> dict[str, Any]:
    metadata.main(rows, preset, as_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_units_are_as_large_as_shards_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    rows = 600
    tiny, full = (measured(capsys, preset, rows) for preset in ("tiny", "sdxl"))
    assert tiny["assembled_rows"] == full["assembled_rows"] == rows
    assert rows / load_config("tiny").data.rows_per_shard <= tiny["units"] < full["units"]
    assert full["units"] >= rows / load_config("sdxl").data.rows_per_shard
