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
import torch
from PIL import Image

from components.config import Config, load_config
from components.data.encode import Encoder
from components.data.manifest import REJECTS, Manifest, load_manifest, shards
from components.data.plan import split_of
from components.data.prepare import Prepared, dataset_fingerprint, prepare
from components.data.sources import read_source
from components.data.stages import encode_rows
from components.errors import ArtifactError, DataError
from components.model.miniature import MiniatureLayout
from components.model.vision import VisionEncoder
from components.world.write import write_world

DREAMBENCH = Path(__file__).parents[2] / "shared" / "dreambench" / "dataset"


def configure(miniature: MiniatureLayout, folder: Path, *overrides: str) -> Config:
    models = [f"model.{part}={miniature.root / part}" for part in ("base", "siglip", "dinov2")]
    places = [f"world.output={folder}/raw", f"data.source={folder}/raw", f"data.output={folder}/prepared"]
    return load_config("tiny", [*models, "model.adapter=null", "data.encoders=1", *places, *overrides])


@pytest.fixture(scope="module")
def poisoned(miniature: MiniatureLayout, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A small world in which one picture is cut short, one is missing, and one caption lacks its word."""
    config = configure(
        miniature,
        tmp_path_factory.mktemp("prepare"),
        "world.identities=10",
        "world.pictures_per_identity=3",
        "data.rows_per_shard=8",
        "data.batch_size=9",
        "data.validation_share=0.3",
    )
    root = config.data.source
    write_world(config.world, seed=3)
    rows = [json.loads(line) for line in (root / "pairs.jsonl").read_text().splitlines()]
    broken = root / rows[0]["image"]
    broken.write_bytes(broken.read_bytes()[:700])
    (root / rows[4]["image"]).unlink()
    rows[8]["word"] = "zeppelin"
    (root / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return config


@pytest.fixture(scope="module")
def prepared(poisoned: Config, ray_cluster: None) -> Prepared:
    return prepare(poisoned)


def read(directory: Path, *columns: str) -> list[dict[str, Any]]:
    """Prepared rows, tensors as arrays. (Importing Ray Data registers its tensor type with Arrow.)"""
    table = pq.read_table(directory / "shards", columns=list(columns) or None).combine_chunks()
    tensors = {
        n: c.chunk(0).to_numpy_ndarray()
        for n, c in zip(table.column_names, table.columns, strict=True)
        if hasattr(c.chunk(0), "to_numpy_ndarray")
    }
    rows = table.drop_columns(list(tensors)).to_pylist()
    return [row | {name: tensor[i] for name, tensor in tensors.items()} for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def rows(prepared: Prepared) -> list[dict[str, Any]]:
    return read(prepared.directory)


def test_rows_are_conserved(prepared: Prepared, rows: list[dict[str, Any]]) -> None:
    manifest = prepared.manifest
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (30, 27, 3)
    assert len(rows) == 27 == len({row["id"] for row in rows})
    assert manifest.splits == dict(Counter(row["split"] for row in rows))
    assert load_manifest(prepared.directory) == manifest


def test_every_row_left_out_is_listed_with_stage_and_reason(prepared: Prepared, rows: list[dict[str, Any]]) -> None:
    rejects = {r["id"]: r for r in pq.read_table(prepared.directory / REJECTS).to_pylist()}
    assert {name: r["stage"] for name, r in rejects.items()} == {
        "images/00000-0.png": "decode",
        "images/00001-1.png": "decode",
        "images/00002-2.png": "word",
    }
    assert not rejects.keys() & {row["id"] for row in rows}
    assert prepared.manifest.reasons == dict(Counter(f"{r['stage']}: {r['reason']}" for r in rejects.values()))


def test_rows_have_the_documented_shapes(rows: list[dict[str, Any]]) -> None:
    shapes = {name: (value.shape, value.dtype.name) for name, value in rows[0].items() if isinstance(value, np.ndarray)}
    assert shapes == {
        "latents": ((4, 16, 16), "float16"),
        "text_tokens": ((32, 128), "float16"),
        "text_pooled": ((64,), "float16"),
        "time_ids": ((6,), "float32"),
        "mask": ((16, 16), "float16"),
        "head": ((16, 16), "float16"),
        "deep": ((64, 192), "float16"),
        "local": ((256, 192), "float16"),
        "face": ((64,), "float16"),
        "other_deep": ((64, 192), "float16"),
        "other_local": ((256, 192), "float16"),
        "other_face": ((64,), "float16"),
    }
    for row in rows:
        assert 0 < row["mask"].mean() < 1 and row["mask"].max() <= 1
        assert row["word"] in row["caption"]


def test_face_columns_follow_the_head_boxes_of_the_source(poisoned: Config, rows: list[dict[str, Any]]) -> None:
    lines = (poisoned.data.source / "pairs.jsonl").read_text().splitlines()
    headed = {row["image"]: row["head_box"] is not None for row in map(json.loads, lines)}
    assert {True, False} == {headed[row["id"]] for row in rows}
    for row in rows:
        assert row["face"].any() == row["head"].any() == headed[row["id"]]
        assert row["other_face"].any() == headed[row["other_id"]]
        assert set(np.unique(row["face"])) <= {0.0, 1.0} and not row["face"].all()
        assert (row["head"] <= row["mask"]).all()


def test_splits_share_no_group(rows: list[dict[str, Any]]) -> None:
    groups = {split: {r["group"] for r in rows if r["split"] == split} for split in ("train", "validation")}
    assert groups["train"] and groups["validation"] and not groups["train"] & groups["validation"]
    assert all(split_of(r["group"], 0.3) == r["split"] for r in rows)


def test_other_view_is_another_picture_of_the_same_subject(rows: list[dict[str, Any]]) -> None:
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        assert row["other_id"] != row["id"]
        if other := by_id.get(row["other_id"]):  # the one with the wrong word is a reference all the same
            assert other["group"] == row["group"]
            assert np.array_equal(row["other_deep"], other["deep"])
            assert np.array_equal(row["other_local"], other["local"])
            assert np.array_equal(row["other_face"], other["face"])


def test_shards_are_as_long_as_asked(prepared: Prepared) -> None:
    files = shards(prepared.directory, "train").glob("*.parquet")
    assert max(pq.read_metadata(file).num_rows for file in files) <= 8


def test_second_run_does_nothing_and_says_so(poisoned: Config, prepared: Prepared) -> None:
    before = (prepared.directory / "manifest.json").stat().st_mtime_ns
    again = prepare(poisoned)
    assert again.reused and again.manifest == prepared.manifest
    assert (prepared.directory / "manifest.json").stat().st_mtime_ns == before
    assert sorted(p.name for p in prepared.directory.parent.iterdir()) == ["prepared", "raw"]


def test_fingerprint_follows_content_settings_and_encoders_but_not_places(poisoned: Config, tmp_path: Path) -> None:
    def mark(encoders: dict[str, str] | None = None, **changes: Any) -> str:
        config = poisoned.model_copy(update={"data": poisoned.data.model_copy(update=changes)})
        return dataset_fingerprint(config, read_source(config.data), encoders or {"base": "a"})

    copy = tmp_path / "copy"
    shutil.copytree(poisoned.data.source, copy)
    assert mark() == mark(source=copy, output=tmp_path / "elsewhere")
    picture = copy / "images" / "00005-0.png"
    Image.open(picture).transpose(Image.Transpose.ROTATE_90).save(picture)
    others = [mark(source=copy), mark(validation_share=0.0), mark(image_size=128), mark({"base": "b"})]
    assert len({mark(), *others}) == 5


def test_source_without_a_usable_row_leaves_nothing_behind(
    miniature: MiniatureLayout, tmp_path: Path, ray_cluster: None
) -> None:
    config = configure(miniature, tmp_path)
    config.data.source.mkdir()
    (config.data.source / "a.png").write_bytes(b"no picture")
    (config.data.source / "pairs.jsonl").write_text('{"image": "a.png", "caption": "a cat", "word": "cat"}')
    with pytest.raises(DataError, match=r"none of its 1 rows can be used: decode: not a picture"):
        prepare(config)
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


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


# -- encoding


def curated(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = np.array([f"{i}" for i in range(count)])
    cutouts = rng.integers(0, 255, (count, 128, 128, 3), np.uint8)
    return {
        **{name: ids for name in ("id", "group", "caption", "word", "source", "split")},
        "picture": rng.integers(0, 255, (count, 64, 64, 3), np.uint8),
        "mask": np.full((count, 64, 64), 255, np.uint8),
        "head": np.zeros((count, 64, 64), np.uint8),
        "time_ids": np.zeros((count, 6), np.float32),
        "cutout": cutouts,
        "face_box": np.tile(np.float32([0, 16, 128, 48]), (count, 1)),
        "other_id": np.roll(ids, 1),
        "other_cutout": np.roll(cutouts, 1, axis=0),
        "other_face_box": np.zeros((count, 4), np.float32),
    }


def test_encoder_gives_what_the_models_give_and_encodes_each_picture_once(
    miniature: MiniatureLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(miniature, tmp_path)
    encoder = Encoder(config.model, config.vision)
    seen: list[int] = []
    forward = VisionEncoder.forward
    monkeypatch.setattr(VisionEncoder, "forward", lambda self, x: (seen.append(len(x)), forward(self, x))[1])
    batch = curated(3)
    out = encoder(batch)
    assert seen == [3]
    direct = encoder.vision.encode_pictures([Image.fromarray(c) for c in batch["cutout"]])
    torch.testing.assert_close(torch.from_numpy(out["deep"]).float(), direct.deep, atol=5e-3, rtol=1e-2)
    assert np.array_equal(out["other_local"], np.roll(out["local"], 1, axis=0))
    assert np.array_equal(out["latents"], encoder(batch)["latents"])
    assert (out["mask"] == 1).all() and not out["head"].any()
    assert out["face"][0].reshape(8, 8).mean(1).tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert not out["other_face"].any()


def test_row_that_fails_costs_no_other() -> None:
    def encode(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if "1" in batch["id"]:
            raise RuntimeError("poison")
        values = np.array([np.inf if name == "2" else 1.0 for name in batch["id"]])
        return {"id": batch["id"], "source": batch["source"], "deep": values}

    columns, rejects = encode_rows(curated(4), encode)
    assert columns["id"].tolist() == ["0", "3"]
    assert [(r.id, r.stage, r.reason) for r in rejects] == [
        ("1", "encode", "the encoders failed (RuntimeError)"),
        ("2", "encode", "beyond half precision"),
    ]


# -- real photographs


@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason=f"the photographs of DreamBench are not at {DREAMBENCH}")
def test_every_photograph_is_kept_or_listed(miniature: MiniatureLayout, tmp_path: Path, ray_cluster: None) -> None:
    config = configure(miniature, tmp_path, "data.format=dreambench", f"data.source={DREAMBENCH}")
    directory = prepare(config).directory
    kept = {row["id"] for row in read(directory, "id")}
    listed = set(pq.read_table(directory / REJECTS)["id"].to_pylist())
    assert kept | listed == {str(p.relative_to(DREAMBENCH)) for p in DREAMBENCH.glob("*/*.jpg")}
    assert not kept & listed and len(kept) > 0.95 * len(kept | listed)
