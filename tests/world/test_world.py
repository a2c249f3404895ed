"""The toy world on disk: the same every time, true to its ground truth, and written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.config import WorldConfig, load_config
from components.errors import ConfigError
from components.fingerprint import fingerprint
from components.world import write
from components.world.identities import CHARACTERS, COLORS, FEATURES, KINDS, PATTERNS, sample_identity
from components.world.places import PLACES
from components.world.scenes import POSITIONS, write_caption

Row = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldConfig:
    return WorldConfig(identities=12, pictures_per_identity=3, output=tmp_path_factory.mktemp("world") / "raw")


@pytest.fixture(scope="module")
def rows(world: WorldConfig) -> list[Row]:
    return read(write.write_world(world, seed=5))


def read(directory: Path) -> list[Row]:
    return [json.loads(line) for line in (directory / "pairs.jsonl").read_text().splitlines()]


def digests(directory: Path) -> dict[str, str]:
    files = (f for f in directory.rglob("*") if f.is_file())
    return {str(f.relative_to(directory)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_seed_draws_the_same_bytes_and_another_seed_does_not(
    world: WorldConfig, rows: list[Row], tmp_path: Path
) -> None:
    again = write.write_world(world.model_copy(update={"output": tmp_path / "again"}), seed=5)
    assert digests(again) == digests(world.output)
    other = write.write_world(world.model_copy(update={"output": tmp_path / "other"}), seed=6)
    assert {r["group"] for r in read(other)} != {r["group"] for r in rows}


def test_worker_processes_draw_what_one_process_draws(
    world: WorldConfig, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_WORTH_WORKERS", 1)
    again = write.write_world(world.model_copy(update={"output": tmp_path / "again"}), seed=5)
    assert digests(again) == digests(world.output)


def test_second_call_leaves_a_finished_world_alone(world: WorldConfig, rows: list[Row]) -> None:
    marker = world.output / "images" / "00000-0.png"
    before = marker.stat().st_mtime_ns
    write.write_world(world, seed=5)
    assert marker.stat().st_mtime_ns == before


def test_changed_settings_replace_the_world(tmp_path: Path) -> None:
    small = WorldConfig(identities=2, pictures_per_identity=2, output=tmp_path / "raw")
    write.write_world(small, seed=0)
    write.write_world(small.model_copy(update={"identities": 3}), seed=0)
    assert len(read(tmp_path / "raw")) == 6
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_interrupted_drawing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_identity_pictures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write.write_world(WorldConfig(identities=2, output=tmp_path / "raw"), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_every_identity_is_drawn_as_often_as_asked(world: WorldConfig, rows: list[Row]) -> None:
    groups = [row["group"] for row in rows]
    assert len(set(groups)) == world.identities
    assert all(groups.count(g) == world.pictures_per_identity for g in groups)


def test_references_are_the_other_pictures_of_the_identity(world: WorldConfig, rows: list[Row]) -> None:
    group_of = {row["image"]: row["group"] for row in rows}
    for row in rows:
        assert len(row["references"]) == world.pictures_per_identity - 1
        assert row["image"] not in row["references"]
        assert {group_of[path] for path in row["references"]} == {row["group"]}


def test_boxes_bound_the_subject_and_its_head(world: WorldConfig, rows: list[Row]) -> None:
    for row in rows:
        mask = Image.open(world.output / row["mask"])
        assert mask.size == Image.open(world.output / row["image"]).size == (world.picture_size,) * 2
        assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert mask.getbbox() == tuple(row["box"])
        if row["head_box"]:
            x0, y0, x1, y1 = row["box"]
            a0, b0, a1, b1 = row["head_box"]
            assert x0 <= a0 < a1 <= x1 and y0 <= b0 < b1 <= y1
        if row["word"] in CHARACTERS:
            assert row["head_box"]


def test_position_is_where_the_subject_stands_and_no_caption_states_another(
    rows: list[Row], world: WorldConfig
) -> None:
    single = [row for row in rows if row["position"]]
    stated = [row for row in single if set(row["caption"].split()) & set(POSITIONS)]
    assert 0 < len(stated) < len(single)
    for row in single:
        center = (row["box"][0] + row["box"][2]) / 2 / world.picture_size
        nearest = min(POSITIONS, key=lambda p: abs(POSITIONS[p] - center))
        assert nearest == row["position"]
        assert set(row["caption"].split()) & set(POSITIONS) <= {row["position"]}


def test_caption_names_subject_and_place_and_nothing_that_only_a_picture_tells(rows: list[Row]) -> None:
    coloured = 0
    for row in rows:
        words = row["caption"].split()
        assert row["word"] in words and row["word"] in KINDS
        assert PLACES[row["place"]] in row["caption"]
        assert not set(words) & {*PATTERNS, *FEATURES}
        primary = row["group"].split("-")[1]
        if colours := set(words) & set(COLORS):
            coloured += 1
            assert colours == {primary}
            stated = {write_caption(row["word"], row["place"], at, primary) for at in (None, row["position"])}
            assert row["caption"] in stated
    assert coloured < len(rows) / 2


def test_held_out_identities_are_never_drawn_for_training(world: WorldConfig, rows: list[Row], tmp_path: Path) -> None:
    held_out = WorldConfig(identities=12, pictures_per_identity=2, split="held_out", output=tmp_path / "raw")
    unseen = {row["group"] for row in read(write.write_world(held_out, seed=5))}
    assert not unseen & {row["group"] for row in rows}
    rng = random.Random(0)
    train = {sample_identity(rng, "train").key for _ in range(500)}
    assert not unseen & train


def test_more_identities_than_the_world_can_tell_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"world\.identities"):
        load_config("tiny", ["world.identities=1000000"])


#: Hashes of the rows and pixels that each version draws, in order. After raising a version add its hash.
DRAWN = ["e5c2fe0cbaf43404"]


def test_a_version_draws_what_it_drew(world: WorldConfig, rows: list[Row]) -> None:
    pixels = {
        f"{field} {row['image']}": hashlib.sha256(Image.open(world.output / row[field]).tobytes()).hexdigest()
        for row in rows
        for field in ("image", "mask")
    }
    drawn = fingerprint([rows, pixels])
    assert len(DRAWN) == write.VERSION, f"DRAWN needs a hash a version: the world is {drawn}"
    assert drawn == DRAWN[-1], (
        "other pictures or rows than before: if that is meant, raise VERSION in components/world/write.py "
        f"and add {drawn!r} here"
    )


def test_a_world_that_a_release_drew_is_left_alone(tmp_path: Path) -> None:
    """Release 0.1.0 wrote this mark for these settings."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "fingerprint").write_text("81ab9596a80b8b7b")
    settings = WorldConfig(identities=12, pictures_per_identity=3, picture_size=128, output=raw)
    write.write_world(settings, seed=5)
    assert [file.name for file in raw.iterdir()] == ["fingerprint"]


def test_another_version_is_drawn_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = WorldConfig(identities=2, pictures_per_identity=2, output=tmp_path / "raw")
    file = write.write_world(small, seed=0) / "images" / "00000-0.png"
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(write, "VERSION", write.VERSION + 1)
    write.write_world(small, seed=0)
    assert file.stat().st_mtime_ns > before
