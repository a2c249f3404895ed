"""Preparation end to end: rows are conserved, bad ones are listed, and finished work is recognised."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.config import Config, load_config
from components.data.manifest import Manifest, bucket_shards, load_manifest, references_folder, shards
from components.data.plan import split_of
from components.data.prepare import Prepared, plan_work, prepare
from components.data.rejects import REJECTS
from components.data.sources import read_source
from components.errors import ArtifactError, DataError
from components.model.miniature import MiniatureLayout
from components.world.write import write_world
from tests.fixtures.stored_rows import dataset_rows

DREAMBENCH = Path(__file__).parents[3] / "shared" / "dreambench" / "dataset"


def configure(miniature: MiniatureLayout, folder: Path, *overrides: str) -> Config:
    models = [f"model.{part}={miniature.root / part}" for part in ("base", "siglip", "dinov2")]
    places = [f"world.output={folder}/raw", f"data.source={folder}/raw", f"data.output={folder}/prepared"]
    return load_config("tiny", [*models, "model.adapter=null", "data.encoders=1", *places, *overrides])


@pytest.fixture(scope="module")
def poisoned(miniature: MiniatureLayout, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A small world with a picture cut short, one missing, one there twice, a wrong word, and a word left out."""
    config = configure(
        miniature,
        tmp_path_factory.mktemp("prepare"),
        "world.identities=10",
        "world.pictures_per_identity=3",
        "data.rows_per_shard=8",
        "data.batch_size=9",
        "data.validation_share=0.3",
        "data.in_flight_gb=1e-6",  # less than a single unit, which must not stop anybody
    )
    root = config.data.source
    write_world(config.world, seed=3)
    rows = [json.loads(line) for line in (root / "pairs.jsonl").read_text().splitlines()]
    broken = root / rows[0]["image"]
    broken.write_bytes(broken.read_bytes()[:700])
    (root / rows[4]["image"]).unlink()
    rows[8]["word"] = "zeppelin"
    rows[10]["word"] = None
    Image.open(root / rows[12]["image"]).resize((160, 160)).save(root / "images" / "again.jpg", quality=90)
    rows.append({**rows[12], "image": "images/again.jpg", "mask": None, "head_box": None, "group": "again"})
    (root / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return config


@pytest.fixture(scope="module")
def prepared(poisoned: Config, ray_cluster: None) -> Prepared:
    return prepare(poisoned)


@pytest.fixture(scope="module")
def rows(prepared: Prepared) -> list[dict[str, Any]]:
    return dataset_rows(prepared.directory)


def same(a: Any, b: Any) -> None:
    """Two stored rows, or what they hold."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name, value in a.items():
            same(value, b[name])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    else:
        assert np.array_equal(a, b)


def test_rows_are_conserved(prepared: Prepared, rows: list[dict[str, Any]]) -> None:
    manifest = prepared.manifest
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (31, 27, 4)
    assert len(rows) == 27 == len({row["id"] for row in rows})
    assert manifest.splits == dict(Counter(row["split"] for row in rows))
    assert manifest.buckets == {split: {"64x64": number} for split, number in manifest.splits.items()}
    assert bucket_shards(prepared.directory, "train") == {"64x64": shards(prepared.directory, "train") / "bucket=64x64"}
    assert load_manifest(prepared.directory) == manifest


def test_every_row_left_out_is_listed_with_stage_and_reason(prepared: Prepared, rows: list[dict[str, Any]]) -> None:
    rejects = {r["id"]: r for r in pq.read_table(prepared.directory / REJECTS).to_pylist()}
    assert {name: r["stage"] for name, r in rejects.items()} == {
        "images/00000-0.png": "decode",
        "images/00001-1.png": "decode",
        "images/00002-2.png": "word",
        "images/again.jpg": "duplicate",
    }
    assert rejects["images/again.jpg"]["kept"] == "images/00004-0.png"
    assert not rejects.keys() & {row["id"] for row in rows}
    assert prepared.manifest.reasons == dict(Counter(f"{r['stage']}: {r['reason']}" for r in rejects.values()))


def shapes(row: dict[str, Any]) -> dict[str, Any]:
    return {name: (value.shape, value.dtype.name) for name, value in row.items() if isinstance(value, np.ndarray)}


def test_rows_have_the_documented_shapes(rows: list[dict[str, Any]]) -> None:
    assert shapes(rows[0]) == {
        "latents": ((4, 16, 16), "float16"),
        "text_tokens": ((32, 128), "float16"),
        "text_pooled": ((64,), "float16"),
        "time_ids": ((6,), "float32"),
        "mask": ((16, 16), "float16"),
        "head": ((16, 16), "float16"),
    }
    reference = {
        "deep": ((64, 192), "float16"),
        "local": ((256, 192), "float16"),
        "face": ((64,), "float16"),
    }
    assert all(shapes(each) == reference for row in rows for each in (row["own"], *row["partners"]))
    for row in rows:
        assert 0 < row["mask"].mean() < 1 and row["mask"].max() <= 1
        assert row["word"] in row["caption"] and len(row["picture_hash"]) == 64
        assert row["word_from"] == ("group" if row["id"] == "images/00003-1.png" else "given")


def test_manifest_states_the_columns(prepared: Prepared, rows: list[dict[str, Any]]) -> None:
    columns = prepared.manifest.columns
    assert columns.keys() | {"split", "bucket", "own", "partners"} == rows[0].keys()
    assert prepared.manifest.references.keys() == rows[0]["own"].keys()
    assert prepared.manifest.references["local"] == "halffloat[256, 192]"
    assert (columns["caption"], columns["latents"], columns["time_ids"]) == (
        "string",
        "halffloat[4, 16, 16]",
        "float[6]",
    )


def test_face_columns_follow_the_head_boxes_of_the_source(poisoned: Config, rows: list[dict[str, Any]]) -> None:
    lines = (poisoned.data.source / "pairs.jsonl").read_text().splitlines()
    headed = {row["image"]: row["head_box"] is not None for row in map(json.loads, lines)}
    assert {True, False} == {headed[row["id"]] for row in rows}
    for row in rows:
        assert row["own"]["face"].any() == row["head"].any() == headed[row["id"]]
        assert all(each["face"].any() == headed[each["id"]] for each in row["partners"])
        assert set(np.unique(row["own"]["face"])) <= {0.0, 1.0} and not row["own"]["face"].all()
        assert (row["head"] <= row["mask"]).all()


def test_splits_share_no_group(rows: list[dict[str, Any]]) -> None:
    groups = {split: {r["group"] for r in rows if r["split"] == split} for split in ("train", "validation")}
    assert groups["train"] and groups["validation"] and not groups["train"] & groups["validation"]
    assert all(split_of(r["group"], 0.3) == r["split"] for r in rows)


def test_partners_are_all_other_pictures_of_the_subject_and_stored_once(
    prepared: Prepared, rows: list[dict[str, Any]]
) -> None:
    subjects: dict[str, set[str]] = {}
    for row in rows:
        subjects.setdefault(row["group"], set()).add(row["id"])
        assert row["own"]["id"] == row["id"]
    for row in rows:
        shown = {each["id"] for each in row["partners"]}
        # The one with the wrong word is a reference all the same, where there is no other.
        assert shown == subjects[row["group"]] - {row["id"]} or shown == {"images/00002-2.png"}
    files = sorted(references_folder(prepared.directory, "train").glob("*.parquet"))
    names = [name for file in files for name in pq.read_table(file, partitioning=None)["id"].to_pylist()]
    assert len(names) == len(set(names)), "a picture's features are stored once"


def test_shards_are_as_long_as_asked(prepared: Prepared) -> None:
    files = shards(prepared.directory, "train").glob("*/*.parquet")
    assert max(pq.read_metadata(file).num_rows for file in files) <= 8


def test_second_run_does_nothing_and_says_so(poisoned: Config, prepared: Prepared) -> None:
    before = (prepared.directory / "manifest.json").stat().st_mtime_ns
    again = prepare(poisoned)
    assert again.reused and again.manifest == prepared.manifest
    assert (prepared.directory / "manifest.json").stat().st_mtime_ns == before
    assert sorted(p.name for p in prepared.directory.parent.iterdir()) == ["prepared", "prepared.parts", "raw"]


def change(config: Config, **data: Any) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=data)})


def test_fingerprint_follows_content_settings_and_encoders_but_not_places(poisoned: Config, tmp_path: Path) -> None:
    def mark(config: Config = poisoned, **data: Any) -> str:
        changed = change(config, **data)
        return plan_work(changed, read_source(changed.data)).fingerprint

    copy = tmp_path / "copy"
    shutil.copytree(poisoned.data.source, copy)
    assert mark() == mark(source=copy, output=tmp_path / "elsewhere", encoders=7, curators=3)
    picture = copy / "images" / "00005-0.png"
    Image.open(picture).transpose(Image.Transpose.ROTATE_90).save(picture)
    vision = poisoned.vision.model_copy(update={"siglip_block": 1})
    others = [
        mark(source=copy),
        mark(validation_share=0.0),
        mark(image_size=128),
        mark(duplicates="keep"),
        mark(poisoned.model_copy(update={"vision": vision})),
    ]
    assert len({mark(), *others}) == 6


@pytest.mark.parametrize("beside", [False, True])
def test_output_that_holds_other_things_is_left_alone(poisoned: Config, tmp_path: Path, beside: bool) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "thesis.txt").write_text("the only copy")
    with pytest.raises(DataError, match=r"contains something other than a dataset"):
        prepare(change(poisoned, output=output / "thesis.txt" if beside else output))
    assert (output / "thesis.txt").read_text() == "the only copy"


def states(directory: Path) -> dict[str, int]:
    """When each finished unit was written."""
    return {file.name: file.stat().st_mtime_ns for file in directory.glob("*.json")}


@pytest.mark.slow
def test_new_rows_are_encoded_and_no_others(
    poisoned: Config, prepared: Prepared, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """New groups come before, between and behind the old ones; a corrected row is encoded again with its unit only."""
    for name in ("raw", "prepared", "prepared.parts"):
        shutil.copytree(poisoned.data.source.parent / name, tmp_path / name)
    config = change(poisoned, source=tmp_path / "raw", output=tmp_path / "prepared")
    file = config.data.source / "pairs.jsonl"
    lines = file.read_text().splitlines()
    new = []
    for index, caption in enumerate(("a red robot", "a blue robot", "two robots")):
        Image.effect_noise((90, 90), 40 + 20 * index).convert("RGB").save(config.data.source / f"new-{index}.png")
        new.append(json.dumps({"image": f"new-{index}.png", "caption": caption, "word": "robot", "group": f"n{index}"}))
    file.write_text("\n".join([new[0], *lines[:7], new[1], *lines[7:], new[2]]))
    before = states(tmp_path / "prepared.parts")
    grown = prepare(config)
    assert not grown.reused and grown.encoded == 3
    assert grown.manifest.rows_in == 34 and grown.manifest.rows_out == 30
    assert before.items() <= states(tmp_path / "prepared.parts").items()
    after = {row["id"]: row for row in dataset_rows(grown.directory)}
    assert after.keys() == {row["id"] for row in rows} | {"new-0.png", "new-1.png", "new-2.png"}
    for row in rows:
        same(after[row["id"]], row)

    file.write_text("\n".join(lines[:-1]))
    shrunk = prepare(config)
    assert shrunk.encoded < 9 and shrunk.manifest.rows_out == 27
    left = {file.name.split(".")[0] for file in (tmp_path / "prepared.parts").iterdir()}
    inputs = {name for name in left if name.startswith("unconditional-")}
    assert len(inputs) == 1 and left - inputs == set(shrunk.manifest.units)


def test_changed_encoders_are_refused_or_encode_again(poisoned: Config, prepared: Prepared, tmp_path: Path) -> None:
    output = tmp_path / "prepared"
    shutil.copytree(prepared.directory, output)
    other = poisoned.model_copy(update={"vision": poisoned.vision.model_copy(update={"siglip_block": 1})})
    refusing = change(other, output=output, on_encoder_change="refuse")
    with pytest.raises(DataError, match=r"was encoded by base \w+, vision \w+, .*data\.on_encoder_change=reencode"):
        prepare(refusing)
    assert load_manifest(output) == prepared.manifest
    again = prepare(change(refusing, on_encoder_change="reencode"))
    assert again.encoded == 30 and again.manifest.encoders != prepared.manifest.encoders


def test_source_without_a_usable_row_leaves_nothing_behind(
    miniature: MiniatureLayout, tmp_path: Path, ray_cluster: None
) -> None:
    config = configure(miniature, tmp_path)
    config.data.source.mkdir()
    (config.data.source / "a.png").write_bytes(b"no picture")
    (config.data.source / "pairs.jsonl").write_text('{"image": "a.png", "caption": "a cat", "word": "cat"}')
    with pytest.raises(DataError, match=r"none of its 1 rows can be used: decode: not a picture"):
        prepare(config)
    assert not config.data.output.exists()


def test_missing_base_model_is_named_before_any_work(miniature: MiniatureLayout, tmp_path: Path) -> None:
    config = configure(miniature, tmp_path, f"model.base={tmp_path}/nowhere", "world.identities=2")
    write_world(config.world, seed=0)
    with pytest.raises(ArtifactError, match=r"model\.base: .*nowhere"):
        prepare(config)


def test_damaged_base_model_is_one_error_and_leaves_nothing_behind(
    miniature: MiniatureLayout, tmp_path: Path, ray_cluster: None
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model_index.json").write_text((miniature.base / "model_index.json").read_text())
    config = configure(miniature, tmp_path, f"model.base={base}", "world.identities=2")
    write_world(config.world, seed=0)
    with pytest.raises(ArtifactError, match=r"model\.base cannot be loaded"):
        prepare(config)
    assert not config.data.output.exists()


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_directory_that_is_no_dataset_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=str(tmp_path)):
        load_manifest(tmp_path)


def test_dataset_of_another_schema_is_refused(tmp_path: Path, prepared: Prepared) -> None:
    older = Manifest(**{**prepared.manifest.model_dump(), "schema_version": 0})
    (tmp_path / "manifest.json").write_text(older.model_dump_json())
    with pytest.raises(DataError, match=r"schema version 0.*run `realcustom prepare` again"):
        load_manifest(tmp_path)


def test_dataset_of_another_schema_is_prepared_anew(
    miniature: MiniatureLayout, tmp_path: Path, prepared: Prepared
) -> None:
    config = configure(miniature, tmp_path, "world.identities=2", "world.pictures_per_identity=2")
    write_world(config.world, seed=0)
    config.data.output.mkdir()
    older = Manifest(**{**prepared.manifest.model_dump(), "schema_version": 0})
    (config.data.output / "manifest.json").write_text(older.model_dump_json())
    assert not prepare(config).reused
    assert load_manifest(config.data.output).rows_out == 4


# -- real photographs


@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason=f"the photographs of DreamBench are not at {DREAMBENCH}")
@pytest.mark.slow
def test_every_photograph_is_kept_or_listed(miniature: MiniatureLayout, tmp_path: Path, ray_cluster: None) -> None:
    config = configure(miniature, tmp_path, "data.format=dreambench", f"data.source={DREAMBENCH}")
    directory = prepare(config).directory
    kept = {row["id"] for row in dataset_rows(directory)}
    rejects = pq.read_table(directory / REJECTS).to_pylist()
    listed = {row["id"] for row in rejects}
    assert kept | listed == {str(p.relative_to(DREAMBENCH)) for p in DREAMBENCH.glob("*/*.jpg")}
    assert not kept & listed and len(kept) > 0.95 * len(kept | listed)
    # Different photographs of one subject are no duplicates.
    assert "duplicate" not in {row["stage"] for row in rejects}
