"""Encoding of one unit: what the models give, everything once, and no row lost with another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from components.config import load_config
from components.data.aspect_buckets import Bucket
from components.data.batch_cache import Failed
from components.data.curate import Curated, Row
from components.data.encode import Encoder
from components.data.finished_units import FinishedUnits, UnitRecord
from components.data.subject_image import ReferenceCutOut, TrainingView
from components.data.unit_writer import prepare_unit
from components.data.units import MarkedRow, Unit
from components.model.face_tokens import face_tokens
from components.model.miniature import MiniatureLayout
from components.model.naming import Naming
from components.model.text import encode_prompts
from tests.fixtures.stored_rows import shard_rows
from tests.fixtures.tolerances import stored_in_half

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 48)


@pytest.fixture(scope="module")
def encoder(miniature: MiniatureLayout) -> Encoder:
    models = [f"model.{part}={miniature.root / part}" for part in ("base", "siglip", "dinov2")]
    config = load_config("tiny", models)
    return Encoder(config.model, config.vision)


def view(bucket: Bucket, seed: int, head: bool = False) -> TrainingView:
    draw = np.random.default_rng(seed)
    picture = draw.integers(0, 255, (bucket.height, bucket.width, 3), np.uint8)
    mask = np.full((bucket.height, bucket.width), 255, np.uint8)
    return TrainingView(
        bucket,
        (200, 100),
        "ab" * 32,
        (100, 200, 0, 0, bucket.height, bucket.width),
        picture,
        mask,
        mask if head else None,
    )


def cutout(seed: int, face: tuple[float, float, float, float] | None = None) -> ReferenceCutOut:
    return ReferenceCutOut(np.random.default_rng(seed).integers(0, 255, (128, 128, 3), np.uint8), face)


def row(name: str, shown: int, other: int, caption: str = "a cat", word: str | None = "cat", **changes: Any) -> Row:
    made = Row(name, "g", caption, word, "given" if word else "detected", name, None, name, shown, shown, (other,))
    return made._replace(**changes)


#: Rows 0 and 2 are square, 1 and 3 wide; 3 is another caption of row 1's picture.
CURATED = Curated(
    [row("0", 0, 1), row("1", 1, 2), row("2", 2, 0, licence="CC0"), row("3", 1, 2, caption="the cat")],
    [view(SQUARE, 0, head=True), view(WIDE, 1), view(SQUARE, 2)],
    [cutout(0, (0, 16, 128, 48)), cutout(1), cutout(2)],
    [],
    ["p0", "p1", "p2"],
)


def never() -> Any:
    raise AssertionError("no word is to be detected")


def prepare(
    encoder: Encoder, curated: Curated, folder: Path, namer: Callable[[], Any] = never, batch_size: int = 8
) -> tuple[UnitRecord, dict[str, dict[str, Any]]]:
    """The record of a unit, and its rows by id."""
    folder.mkdir(exist_ok=True)
    jobs = tuple(MarkedRow(r.id, {"split": "train"}) for r in curated.rows)  # type: ignore[typeddict-item]
    record = prepare_unit(Unit(jobs), curated, FinishedUnits(folder), encoder, namer, batch_size)
    parts, rows = FinishedUnits(folder), {}
    for bucket in record.files:
        rows |= {row["id"]: row for row in shard_rows(parts.shard(record.key, bucket), parts.references(record.key))}
    return record, rows


def test_rows_are_what_the_models_give(encoder: Encoder, tmp_path: Path) -> None:
    record, rows = prepare(encoder, CURATED, tmp_path)
    assert list(record.files) == ["64x64", "96x48"] and [r.id for r in record.rows] == ["0", "2", "1", "3"]
    text = encode_prompts(encoder.pipeline, ["the cat"])
    close = stored_in_half(encoder.vision, encoder.pipeline.text_encoder_2, largest=10)
    torch.testing.assert_close(torch.tensor(rows["3"]["text_tokens"]).float(), text.tokens[0], **close)
    torch.testing.assert_close(torch.tensor(rows["3"]["text_pooled"]).float(), text.pooled[0], **close)
    pictures = [Image.fromarray(c.pixels) for c in CURATED.cutouts]
    features = encoder.vision.encode_images(pictures)
    torch.testing.assert_close(torch.tensor(rows["2"]["own"]["deep"]).float(), features.deep[2], **close)
    torch.testing.assert_close(torch.tensor(rows["2"]["partners"][0]["local"]).float(), features.local[0], **close)
    assert rows["0"]["latents"].shape == (4, 16, 16) and rows["1"]["latents"].shape == (4, 12, 24)
    assert rows["1"]["time_ids"].tolist() == [100, 200, 0, 0, 48, 96]
    assert (rows["1"]["mask"] == 1).all() and not rows["1"]["head"].any() and (rows["0"]["head"] == 1).all()
    face = face_tokens((0, 16, 128, 48), 128, encoder.vision.grid).numpy()
    assert np.array_equal(rows["0"]["own"]["face"], face) and np.array_equal(rows["2"]["partners"][0]["face"], face)
    assert not rows["1"]["own"]["face"].any()
    assert {name: (each["own"]["id"], each["partners"][0]["id"]) for name, each in rows.items()} == {
        "0": ("p0", "p1"), "1": ("p1", "p2"), "2": ("p2", "p0"), "3": ("p1", "p2"),
    }  # fmt: skip
    assert (rows["2"]["licence"], rows["0"]["licence"], rows["0"]["word_from"]) == ("CC0", None, "given")


def test_every_picture_caption_and_cut_out_is_encoded_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: dict[str, list[int]] = {"pictures": [], "texts": [], "references": []}
    for name, seen in counts.items():
        run = getattr(encoder, name)
        monkeypatch.setattr(encoder, name, lambda batch, run=run, seen=seen: (seen.append(len(batch)), run(batch))[1])
    _, rows = prepare(encoder, CURATED, tmp_path, batch_size=2)
    assert len(rows) == 4
    assert {name: sum(seen) for name, seen in counts.items()} == {"pictures": 3, "texts": 2, "references": 3}
    assert max(size for seen in counts.values() for size in seen) <= 2


def test_captions_and_partners_share_the_features_of_a_picture(encoder: Encoder, tmp_path: Path) -> None:
    """Four rows, of which two are captions of one picture, and each with a partner: three references are stored."""
    record, rows = prepare(encoder, CURATED, tmp_path)
    parts = FinishedUnits(tmp_path)
    stored = pq.read_table(parts.references(record.key))
    assert stored["reference"].to_pylist() == [0, 1, 2] and rows["1"]["reference"] == rows["3"]["reference"]
    features = sum(stored[name].nbytes for name in ("deep", "local", "face"))
    of_rows = sum(pq.read_table(parts.shard(record.key, bucket)).nbytes for bucket in record.files)
    paired = 2 * features * len(rows) / len(stored)  # a row's own and its partner's, as version 3 stored them
    assert (of_rows + features) / (of_rows + paired) < 0.5


def test_large_references_are_row_groups_of_their_own(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.data.unit_writer.REFERENCE_GROUP_BYTES", 1)
    record, _ = prepare(encoder, CURATED, tmp_path)
    assert pq.read_metadata(FinishedUnits(tmp_path).references(record.key)).num_row_groups == 3


def test_same_unit_gives_the_same_bytes(encoder: Encoder, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        prepare(encoder, CURATED, tmp_path / folder)
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in ("a", "b"))
    assert [f.name for f in first] == [f.name for f in second] and len(first) == 4
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_row_that_fails_costs_no_other(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row's caption is poison, the second one's cut-out overflows; it was the other view of the first."""
    texts, references = encoder.texts, encoder.references

    def poisoned(captions: list[str]) -> list[Any]:
        if "poison" in captions:
            raise RuntimeError("poison")
        return texts(captions)

    def overflowing(cutouts: list[ReferenceCutOut]) -> list[Any]:
        failed = Failed("beyond half precision")
        pairs = zip(cutouts, references(cutouts), strict=True)
        return [failed if one is CURATED.cutouts[2] else result for one, result in pairs]

    monkeypatch.setattr(encoder, "texts", poisoned)
    monkeypatch.setattr(encoder, "references", overflowing)
    rows = [CURATED.rows[0]._replace(caption="poison"), *CURATED.rows[1:]]
    record, kept = prepare(encoder, CURATED._replace(rows=rows), tmp_path)
    assert [(r.id, r.stage, r.reason) for r in record.rejects] == [
        ("0", "encode", "the encoders failed (RuntimeError)"),
        ("2", "encode", "beyond half precision"),
    ]
    assert list(kept) == ["1", "3"]
    # Their other view failed, so they have none.
    assert kept["1"]["partners"] == [] and kept["1"]["own"]["id"] == "p1"


class Namer:
    """Sees a cat where the caption says so."""

    def name(self, prompt: str, pictures: list[Image.Image]) -> Naming:
        assert [picture.size for picture in pictures] == [(128, 128)]
        found = "cat" if "cat" in prompt else "dog"
        return Naming(found, 0.9, "detected" if found in prompt else "generated", prompt)


def test_word_is_detected_or_the_head_noun_or_the_row_is_left_out(encoder: Encoder, tmp_path: Path) -> None:
    rows = [
        row("0", 0, 1, word=None),
        row("1", 1, 2, caption="on the beach", word=None),
        row("2", 2, 0, word="a cat"),
        row("3", 0, 2, caption="a photo of a small Robot at night", word=None),
    ]
    record, kept = prepare(encoder, CURATED._replace(rows=rows), tmp_path, namer=Namer)
    words = {"0": ("cat", "detected"), "2": ("a cat", "given"), "3": ("Robot", "caption")}
    assert {name: (r["word"], r["word_from"]) for name, r in kept.items()} == words
    assert [(r.id, r.stage) for r in record.rejects] == [("1", "word")]
    assert {r.id: (r.word, r.word_from) for r in record.rows} == words
