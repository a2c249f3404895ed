"""A stage that gives something else has another version: what each gives for a fixed input, against its version's.

Compared exactly is what no processor rounds: text, decisions, 8 bit pixels, columns. What the models compute is
compared with the dataset of a release, within the rounding of half precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw

from components.config import Config
from components.data.aspect_buckets import buckets
from components.data.assemble import duplicates
from components.data.curate import curate
from components.data.duplicates import hash_bits
from components.data.encode import Encoder, PictureLatents, ReferenceFeatures, TextTokens, mask_shares
from components.data.finished_units import FinishedUnits, RowRecord, UnitRecord
from components.data.plan import PlannedRow, plan_rows
from components.data.prepare import plan_work
from components.data.region import subject_mask
from components.data.row_index import digest
from components.data.schema import AnnotatedSubject, SourceRow
from components.data.source_files import SourceFiles
from components.data.sources import read_source
from components.data.stage_versions import RELEASED, STAGES, stages_identity
from components.data.subject_image import CurateSettings, ReferenceCutOut, TrainingView
from components.data.unit_writer import prepare_unit
from components.data.units import MarkedRow, Unit, cut_units
from components.fingerprint import fingerprint
from components.model.face_tokens import face_tokens
from components.model.naming import Naming
from components.model.phrases import candidate_phrases, insert_noun, spelled_in, with_article
from components.model.words import find_word, plurals, singulars
from tests.fixtures.stored_rows import StoredRow, shard_rows, table_rows
from tests.fixtures.tolerances import bound
from tests.test_release_fixtures import config, release

__all__ = ["config", "release"]

#: What each version of a stage gives, as a hash, the first version's first. After raising a version add its hash.
GIVEN: dict[str, list[str]] = {
    "plan": ["3294b87c8365c918", "0da66c6603d90e60"],
    "curate": ["f6cfc1e12da255f6", "e19f29450629a4c8", "1e91fb64ae460a9b"],
    "word": ["153dcb574b1ec475"],
    "encode": ["a0a42c7b5e11950d"],
    "write": ["fce5f947d2c90913", "e32703ef71944910"],
    "assemble": ["6b55f108fe08b115"],
}


def subject(name: str, **fields: Any) -> AnnotatedSubject:
    given = {"id": name, "image": name, "mask": None, "box": None, "head_box": None}
    return AnnotatedSubject(**given | fields)  # type: ignore[typeddict-item]


def source_row(name: str, caption: str, word: str | None, group: str, references: list[str] | None = None) -> SourceRow:
    return SourceRow(
        subject=subject(name), caption=caption, word=word, group=group,
        references=references, source="pairs.jsonl", licence=None,
    )  # fmt: skip


def plan(_: Path) -> Any:
    rows = [
        source_row("1", " a\tred  CAT\u200b on the beach ", "cat", "tom"),
        source_row("2", "two cats", None, "tom"),
        source_row("3", "“Tom’s” café\u0301 &amp; bar", "café", "tom", ["1", "9"]),
        source_row("4", "nothing to see", "cat", "tom"),
        source_row("5", "\x07", None, "tom"),
        source_row("6", "word " * 300, None, "long"),
        *(source_row(f"g{number}", "a robot", "robot", f"group {number}") for number in range(8)),
        *(source_row(f"m{number}", f"a dog {number}", "dog", "many") for number in range(6)),
    ]
    jobs, rejects = plan_rows(rows, 0.4)
    return list(jobs), list(rejects)


def noise(seed: int, width: int, height: int, channels: int = 3) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


def pixels(folder: Path) -> Any:
    """Curation of pictures of several kinds: plain, turned, transparent, grey with 16 bits, unusable."""

    def save(name: str, picture: Image.Image, **how: Any) -> str:
        picture.save(folder / name, "PNG", **how)
        return name

    def mask(name: str, width: int, height: int, box: tuple[int, int, int, int]) -> str:
        image = Image.new("L", (width, height))
        image.paste(255, box)
        return save(name, image)

    turned = Image.Exif()
    turned[0x0112] = 6
    clear = noise(3, 64, 64, 4)
    clear[..., 3] = np.where(np.arange(64)[:, None] < 40, 255, 0)
    deep = np.random.RandomState(4).randint(0, 1 << 16, (64, 64)).astype(np.uint16)
    (folder / "broken.png").write_bytes(b"no picture")
    small, wide = mask("small.png", 64, 64, (8, 8, 40, 60)), mask("large.png", 256, 128, (150, 20, 240, 90))
    lying = mask("lying.png", 160, 80, (9, 9, 99, 70))
    subjects = [
        subject(save("same.png", Image.fromarray(noise(0, 64, 64))), mask=small),
        subject(save("wide.png", Image.fromarray(noise(1, 256, 128))), mask=wide, head_box=(160, 30, 200, 60)),
        subject(save("turned.png", Image.fromarray(noise(2, 80, 160)), exif=turned), mask=lying),
        subject(save("clear.png", Image.fromarray(clear))),
        subject(save("deep.png", Image.fromarray(deep)), mask=mask("deep-mask.png", 64, 64, (30, 0, 64, 64))),
        subject("broken.png"),
        subject("same.png", mask=wide),
        subject("same.png", box=(0, 0, 65, 10)),
    ]  # fmt: skip
    jobs = [
        PlannedRow(
            row={**source_row(one["image"], "a cat", "cat", "g"), "subject": one},
            split="train", word_from="given", others=[subjects[-3], subjects[0]], whole_group=place % 2 == 0,
        )
        for place, one in enumerate(subjects)
    ]  # fmt: skip
    settings = CurateSettings(SourceFiles.at(folder), buckets(64, 16, 2.0), 64, 10**6, 10**6, "original")
    return curate(jobs, settings)


def curated(folder: Path) -> Any:
    """Curation, and the mask of a subject that the border cuts off."""
    bust = Image.new("RGB", (96, 96), "lightblue")
    draw = ImageDraw.Draw(bust)
    draw.rectangle((34, 16, 62, 44), fill="darkred")
    draw.rectangle((16, 48, 80, 96), fill="darkred")
    return [pixels(folder), np.asarray(subject_mask(bust))]


def words(_: Path) -> Any:
    prompts = ["a red cat and two dogs on the beach", "Tom's coffee cup, running shoes", "an old oak tree's leaf", ""]
    nouns = ["cat", "dog", "coffee cup", "box", "leaf", "owl"]
    return [
        [candidate_phrases(prompt) for prompt in prompts],
        [insert_noun(noun, prompt) for noun in nouns for prompt in prompts],
        [[with_article(noun), sorted(plurals(noun)), sorted(singulars(noun + "s"))] for noun in nouns],
        [[find_word(prompt, noun), spelled_in(prompt, noun)] for noun in nouns for prompt in prompts],
    ]


def resolutions(_: Path) -> Any:
    """Of the encoded numbers, those that are exact: shares of masks, groups of tokens."""
    mask = np.where(noise(5, 64, 32, 1)[..., 0] > 127, 255, 0).astype(np.uint8)
    boxes = [None, (0.0, 0.0, 64.0, 16.0), (10.5, 20.0, 31.0, 33.5)]
    return [mask_shares(mask, (8, 16)), *(face_tokens(box, 64, 8).numpy() for box in boxes)]


class Counting:
    """An encoder whose numbers say what was encoded."""

    def latent_size(self, view: TrainingView) -> tuple[int, int]:
        return view.mask.shape[0] // 4, view.mask.shape[1] // 4

    def pictures(self, views: list[TrainingView]) -> list[PictureLatents]:
        return [
            PictureLatents(np.full((1, *self.latent_size(view)), view.picture[0, 0, 0], np.float16)) for view in views
        ]

    def texts(self, captions: list[str]) -> list[TextTokens]:
        return [TextTokens(np.full((2, 1), len(c), np.float16), np.full(1, len(c), np.float16)) for c in captions]

    def references(self, cutouts: list[ReferenceCutOut]) -> list[ReferenceFeatures]:
        values = [np.full((1, 1), cutout.pixels.mean() // 1, np.float16) for cutout in cutouts]
        return [ReferenceFeatures(value, value, value[0]) for value in values]


class Namer:
    def name(self, prompt: str, _: list[Image.Image]) -> Naming:
        return Naming("cat", 0.9, "detected" if "cat" in prompt else "generated", prompt)


def shards(folder: Path) -> Any:
    """A unit's shards and record; their bytes depend on the release of Arrow, their content does not."""
    curated = pixels(folder)
    rows = [row._replace(word=None, word_from="detected") if i == 1 else row for i, row in enumerate(curated.rows)]
    rows[2] = rows[2]._replace(word=None, word_from="detected", caption="on the beach", licence="CC0")
    unit = Unit(tuple(MarkedRow(row.id, {"split": "train"}) for row in rows))  # type: ignore[typeddict-item]
    record = prepare_unit(unit, curated._replace(rows=rows), FinishedUnits(folder), Counting(), Namer, 2)  # type: ignore[arg-type]
    parts = FinishedUnits(folder)
    files = {bucket: parts.shard(record.key, bucket) for bucket in record.files}
    tables = {
        name: pq.read_table(file) for name, file in (files | {"references": parts.references(record.key)}).items()
    }
    columns = {bucket: [[field.name, str(field.type)] for field in table.schema] for bucket, table in tables.items()}
    content = {bucket: table.to_pylist() for bucket, table in tables.items()}
    return [record.model_dump(mode="json", exclude={"files", "references"}), columns, content]


def twins(_: Path) -> Any:
    def record(name: str, image: str, flipped: int) -> RowRecord:
        bits = np.random.RandomState(7).randint(0, 2, 256)
        bits[:flipped] ^= 1
        return RowRecord(
            id=name, image=image, picture_hash=np.packbits(bits.astype(np.uint8)).tobytes().hex(),
            size=(64, 64), bucket="64x64", word="cat", word_from="given",
        )  # fmt: skip

    rows = [("a", "1", 0), ("b", "1", 0), ("c", "2", 20), ("d", "3", 41), ("e", "4", 100), ("f", "5", 110)]
    records = [record(*row) for row in rows]
    pictures = np.array([digest(each.image) for each in records], np.uint64)
    first = duplicates(pictures, np.stack([hash_bits(each.picture_hash) for each in records]))
    return {one.id: records[at].id for one, at in zip(records, first, strict=True) if records[at] is not one}


STAGE: dict[str, Callable[[Path], Any]] = {
    "plan": plan, "curate": curated, "word": words, "encode": resolutions, "write": shards, "assemble": twins,
}  # fmt: skip


def plain(value: Any) -> Any:
    """``value`` as JSON takes it; arrays as their type, shape and a hash of their bytes."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("stage", STAGE)
def test_a_stage_gives_what_its_version_gave(stage: str, tmp_path: Path) -> None:
    given = fingerprint(plain(STAGE[stage](tmp_path)))
    assert len(GIVEN[stage]) == STAGES[stage], f"GIVEN needs a hash a version: {stage} gives {given}"
    assert given == GIVEN[stage][-1], (
        f"{stage} gives something else than before: if that is meant, raise its version in "
        f"components/data/stage_versions.py and add {given!r} here"
    )


def test_every_stage_has_a_version() -> None:
    assert GIVEN.keys() == STAGE.keys() == STAGES.keys()


def test_another_version_is_another_identity() -> None:
    found = {stages_identity({**STAGES, stage: STAGES[stage] + 1}) for stage in STAGES}
    assert len(found | {stages_identity()}) == len(STAGES) + 1


def test_a_release_without_versions_is_known_by_its_hash(release: Path) -> None:
    made = json.loads((release / "made.json").read_text())
    assert stages_identity(RELEASED[made["code"]]) == made["code"]
    assert json.loads((release / "prepared" / "manifest.json").read_text())["code"] == made["code"]


def test_models_compute_what_they_computed_for_the_release(release: Path, config: Config, tmp_path: Path) -> None:
    """Other numbers need a new version of ``encode`` and new fixtures (`fixtures/make_release_fixtures.py`)."""
    made = json.loads((release / "made.json").read_text())["code"]
    assert STAGES["encode"] == RELEASED[made]["encode"], "make fixtures with this version"
    source = read_source(config.data)
    encoder, settings = Encoder(config.model, config.vision), CurateSettings.of(config, source.store)
    now, rows, found = FinishedUnits(tmp_path), {}, {}
    for unit in cut_units(plan_work(config, source).jobs, config.data.rows_per_shard, {}):
        curated = curate([job.job for job in unit.jobs], settings)
        record = prepare_unit(unit, curated, now, encoder, Namer, config.data.batch_size)  # type: ignore[arg-type]
        rows |= {row.id: row for row in record.rows}
        for bucket in record.files:
            of_bucket = shard_rows(now.shard(unit.key, bucket), now.references(unit.key))
            found |= {row["id"]: row for row in of_bucket}
    before = release / "prepared.parts"
    records = [UnitRecord.model_validate_json(file.read_bytes()) for file in before.glob("*.json")]
    assert rows == {row.id: row for record in records for row in record.rows}
    stored = {row["id"]: row for file in before.glob("*.parquet") for row in table_rows(pq.read_table(file))}
    assert stored.keys() == found.keys() and len(stored) > 8
    for name, row in stored.items():
        compare(row, found[name])


def compare(before: StoredRow, now: StoredRow) -> None:
    """A row of version 3 with its two references: text and what is counted equal, the rest within two roundings."""
    shown = {each["id"]: each for each in now["partners"]}
    other = shown[before["other_id"]] if before["other_id"] != before["id"] else now["own"]
    columns = now["own"] | {f"other_{name}": value for name, value in other.items()} | now
    for name, old in before.items():
        if not isinstance(old, np.ndarray):
            assert old == columns[name], name
        elif name in ("time_ids", "mask", "head", "face", "other_face"):
            assert np.array_equal(old, columns[name]), name
        else:
            new = torch.from_numpy(columns[name].copy()).float()
            expected = torch.from_numpy(old.copy()).float()
            torch.testing.assert_close(new, expected, rtol=2 * bound(torch.float16, 1), atol=1e-4)
            assert expected.std() > 0.05, f"{name} says nothing"
