"""Units of work: how rows are cut into them, how they travel, and how finished ones are kept and put together."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.data.aspect_buckets import Bucket
from components.data.assemble import assemble, duplicates
from components.data.batch_cache import BatchCache, Failed
from components.data.blocks import (
    curated_block,
    done_block,
    failed_block,
    read_curated,
    read_done,
    stopped_block,
)
from components.data.crash_screening import screen
from components.data.curate import Curated, Row
from components.data.duplicates import hash_bits
from components.data.finished_units import FinishedUnits, RowRecord, UnitRecord, write_shard
from components.data.manifest import bucket_shards, references_folder
from components.data.plan import PlannedRow, plan_rows
from components.data.ray_stages import KEY, curate_units
from components.data.rejects import Reject
from components.data.row_index import RowIndex, digest
from components.data.schema import SourceRow
from components.data.source_files import SourceFiles
from components.data.subject_image import CurateSettings, ReferenceCutOut, TrainingView
from components.data.units import MarkedRow, Unit, cut_units, mark_rows
from components.errors import ArtifactError, ConfigError, DataError
from components.full_disk import report_full_disk
from tests.fixtures.stored_rows import dataset_rows


def source_row(name: str, group: str, word: str | None = "cat") -> SourceRow:
    return {
        "subject": {"id": name, "image": name, "mask": None, "box": None, "head_box": None},
        "caption": "a cat",
        "word": word,
        "group": group,
        "references": None,
        "source": name,
        "licence": None,
    }


def plan(rows: Sequence[SourceRow], share: float = 0.0) -> Sequence[PlannedRow]:
    return plan_rows(list(rows), share).jobs


def marked(
    jobs: Sequence[PlannedRow], settings: object = "s", naming: object = "n", **content: str
) -> Sequence[MarkedRow]:
    files = {job["row"]["subject"]["image"]: "content" for job in jobs} | content
    return mark_rows(jobs, lambda addresses: files, settings, naming)


def rows_of(**sources: str) -> RowIndex:
    """Rows of a source by their names, each with where it comes from."""
    return RowIndex([{**source_row(name, name), "source": source} for name, source in sources.items()])


def names(units: Sequence[Unit]) -> list[list[str]]:
    return [[job.job["row"]["subject"]["id"] for job in unit.jobs] for unit in units]


def finished(units: Sequence[Unit]) -> dict[str, list[str]]:
    return {unit.key: unit.marks for unit in units}


groups = st.lists(st.integers(1, 6), max_size=12).map(
    lambda sizes: [source_row(f"{group}-{i}", str(group)) for group, size in enumerate(sizes) for i in range(size)]
)


# -- cutting


def test_units_hold_whole_groups() -> None:
    rows = [source_row(f"{g}{i}", g) for g, n in (("a", 3), ("b", 3), ("c", 9), ("d", 1)) for i in range(n)]
    units = cut_units(marked(plan(rows)), 4, {})
    assert [len(unit.jobs) for unit in units] == [3, 3, 4, 4, 2]
    assert [name for unit in names(units) for name in unit] == [row["subject"]["id"] for row in rows]


@settings(deadline=None)
@given(groups, st.integers(1, 5), st.floats(0, 1))
def test_every_row_is_in_one_unit_of_its_split(rows: list[SourceRow], size: int, share: float) -> None:
    jobs = marked(plan(rows, share))
    units = cut_units(jobs, size, {})
    assert sorted(mark for unit in units for mark in unit.marks) == sorted(job.mark for job in jobs)
    assert all({job.job["split"] for job in unit.jobs} == {unit.split} for unit in units)
    assert max((len(unit.jobs) for unit in units), default=0) <= size


@settings(deadline=None)
@given(groups, groups, st.integers(0, 12), st.integers(1, 5), st.sets(st.integers(0, 20)))
def test_finished_units_are_never_cut_again(
    rows: list[SourceRow], new: list[SourceRow], place: int, size: int, lost: set[int]
) -> None:
    """Wherever new groups are put in, and whichever units were not finished, those that were are used."""
    before = cut_units(marked(plan(rows)), size, {})
    done = finished([unit for i, unit in enumerate(before) if i not in lost])
    added = [source_row(f"new {row['subject']['id']}", f"new {row['group']}") for row in new]
    jobs = marked(plan([*rows[:place], *added, *rows[place:]]))
    after = cut_units(jobs, size, done)
    assert done.keys() <= {unit.key for unit in after}
    assert sorted(mark for unit in after for mark in unit.marks) == sorted(job.mark for job in jobs)


@settings(deadline=None)
@given(groups, st.integers(1, 5), st.sets(st.integers(0, 20)))
def test_interrupted_work_is_cut_as_it_was(rows: list[SourceRow], size: int, kept: set[int]) -> None:
    jobs = marked(plan(rows))
    units = cut_units(jobs, size, {})
    assert cut_units(jobs, size, finished([unit for i, unit in enumerate(units) if i in kept])) == units


def test_units_that_lost_a_row_or_are_too_large_are_cut_again() -> None:
    rows = [source_row(f"{g}{i}", g) for g in "abcd" for i in range(2)]
    jobs = marked(plan(rows))
    done = finished(cut_units(jobs, 4, {}))
    assert names(cut_units(jobs[1:], 4, done)) == [["a1", "b0", "b1"], ["c0", "c1", "d0", "d1"]]
    assert not done.keys() & {unit.key for unit in cut_units(jobs, 2, done)}


def test_marks_follow_all_that_matters_and_nothing_else() -> None:
    jobs = plan([source_row("a", "g"), source_row("b", "g", word=None), source_row("c", "h", word=None)])
    before = marked(jobs)
    assert marked(jobs) == before
    assert [a.mark == b.mark for a, b in zip(marked(jobs, settings="t"), before, strict=True)] == [False] * 3
    assert [a.mark == b.mark for a, b in zip(marked(jobs, naming="m"), before, strict=True)] == [True, True, False]
    # The content of a file matters to every row that may show it, here as the other picture of the group.
    assert [a.mark == b.mark for a, b in zip(marked(jobs, a="new"), before, strict=True)] == [False, False, True]


# -- travelling


def a_view(width: int, height: int, head: bool) -> TrainingView:
    draw = np.random.default_rng(width)
    mask = draw.integers(0, 255, (height, width), np.uint8)
    picture = draw.integers(0, 255, (height, width, 3), np.uint8)
    return TrainingView(
        Bucket(width, height),
        (3 * width, 3 * height),
        "ab" * 32,
        (1, 2, 3, 4, 5, 6),
        picture,
        mask,
        mask if head else None,
    )


def a_record_row(name: str, **changes: object) -> RowRecord:
    fields = {
        "id": name, "image": name, "picture_hash": "00" * 32, "size": (9, 9), "bucket": "8x8", "word": "cat",
        "word_from": "given",
    }  # fmt: skip
    return RowRecord(**(fields | changes))  # type: ignore[arg-type]


def a_row(name: str, view: int, cutout: int, other: int) -> Row:
    return Row(name, "g", "a cat", None, "detected", name, None, name, view, cutout, (other,))


def test_units_travel_unchanged(tmp_path: Path) -> None:
    unit = Unit(tuple(marked(plan([source_row("a", "g"), source_row("b", "g")]))))
    parts = FinishedUnits(tmp_path)
    parts.plan(unit)
    back = parts.planned(unit.key)
    assert back == unit and back.key == unit.key
    parts.forget_unfinished()
    assert list(tmp_path.iterdir()) == []


def test_curated_units_travel_unchanged_and_without_copies() -> None:
    unit = Unit(tuple(marked(plan([source_row("a", "g"), source_row("b", "g")]))))
    square = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    made = Curated(
        [a_row("a", 0, 0, 1), a_row("b", 1, 1, 0)],
        [a_view(16, 24, head=True), a_view(32, 16, head=False)],
        [ReferenceCutOut(square, (1.0, 2.0, 3.0, 4.0)), ReferenceCutOut(255 - square, None)],
        [Reject("c", "c", "decode", "damaged")],
        ["a", "b"],
    )
    block = curated_block(unit, made)
    back, curated = read_curated(block, 0)
    assert back == unit and curated.rows == made.rows and curated.rejects == made.rejects
    assert curated.cutout_ids == made.cutout_ids
    for got, wanted in zip(curated.views, made.views, strict=True):
        assert got[:4] == wanted[:4]
        assert np.array_equal(got.picture, wanted.picture) and np.array_equal(got.mask, wanted.mask)
        assert (got.head is None) == (wanted.head is None)
        assert not got.picture.flags.owndata
    for cut, wanted_cut in zip(curated.cutouts, made.cutouts, strict=True):
        assert np.array_equal(cut.pixels, wanted_cut.pixels) and cut.face_box == wanted_cut.face_box


def test_unit_without_a_usable_row_travels_too() -> None:
    unit = Unit(tuple(marked(plan([source_row("a", "g")]))))
    made = Curated([], [], [], [Reject("a", "a", "decode", "damaged")], [])
    assert read_curated(curated_block(unit, made), 0) == (unit, made)


def test_what_stops_the_work_arrives_as_it_was_raised() -> None:
    with pytest.raises(ArtifactError, match="no such model"):
        read_curated(stopped_block(ArtifactError("no such model")), 0)
    with pytest.raises(DataError, match="no space"):
        read_done(failed_block(DataError("no space")))
    assert read_done(done_block(7)) == 7


# -- results that are computed once


def test_results_are_computed_once_and_in_batches() -> None:
    seen: list[list[int]] = []

    def square(items: list[int]) -> list[int]:
        seen.append(items)
        return [item * item for item in items]

    once = BatchCache(square, batch_size=2)
    assert once.get([3, 1, 3, 2]) == [9, 1, 9, 4] and seen == [[3, 1], [2]]
    assert once.get([2, 4]) == [4, 16] and seen == [[3, 1], [2], [4]]
    once.forget([2])
    assert once.get([1, 2]) == [1, 4] and seen[3:] == [[2]]


def test_item_that_fails_costs_no_other() -> None:
    def compute(items: list[int]) -> list[int | Failed]:
        if 2 in items:
            raise RuntimeError("poison")
        return [Failed("beyond half precision") if item == 3 else item for item in items]

    assert BatchCache(compute, batch_size=4).get([1, 2, 3, 4]) == [
        1, Failed("the encoders failed (RuntimeError)"), Failed("beyond half precision"), 4,
    ]  # fmt: skip


def test_running_out_of_memory_is_the_fault_of_no_item() -> None:
    class OutOfMemoryError(RuntimeError): ...

    def compute(items: list[int]) -> list[int]:
        if len(items) > 1 or items == [3]:
            raise OutOfMemoryError
        return items

    once = BatchCache(compute, batch_size=4)
    assert once.get([1, 2]) == [1, 2]
    with pytest.raises(ConfigError, match=r"data\.image_size: .*out of memory"):
        once.get([3])


def test_broken_device_costs_no_row() -> None:
    class AcceleratorError(RuntimeError): ...

    def compute(items: list[int]) -> list[int]:
        raise AcceleratorError

    with pytest.raises(AcceleratorError):
        BatchCache(compute, batch_size=4).get([1, 2])


# -- finished units


def tensors(rows: int) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(4 * rows, dtype=np.float16).reshape(-1, 2, 2))


def a_table(name: str, number: int = 0, others: Sequence[int] = ()) -> pa.Table:
    numbers = {"reference": pa.array([number], pa.int32()), "others": pa.array([list(others)], pa.list_(pa.int32()))}
    return pa.table({"id": [name], "latents": tensors(1)} | numbers)


def keep(parts: FinishedUnits, key: str, *rows: RowRecord, split: str = "train") -> UnitRecord:
    """Write a finished unit; a row shows the pictures of all others."""
    parts.directory.mkdir(exist_ok=True)
    files, pictures = {}, list(dict.fromkeys(row.image for row in rows))
    for bucket in {row.bucket for row in rows}:
        tables = []
        for row in rows:
            if row.bucket == bucket:
                own = pictures.index(row.image)
                tables.append(a_table(row.id, own, [at for at in range(len(pictures)) if at != own]))
        files[bucket] = write_shard(parts.shard(key, bucket), tables)
    numbers = {"reference": pa.array(range(len(pictures)), pa.int32()), "id": pictures}
    references = write_shard(parts.references(key), [pa.table(numbers | {"deep": tensors(len(pictures))})])
    record = UnitRecord(
        key=key, split=split, marks=[r.id for r in rows], rows=list(rows), rejects=[], files=files,
        references=references,
    )  # type: ignore[arg-type]  # fmt: skip
    parts.finish(record)
    return record


def test_unit_is_finished_when_its_record_and_all_its_shards_are_there(tmp_path: Path) -> None:
    parts = FinishedUnits(tmp_path)
    record = keep(parts, "k", a_record_row("a"), a_record_row("b", bucket="8x16"))
    assert list(parts.finished()) == [record] and parts.find("other") is None
    shard = parts.shard("k", "8x16")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert parts.find("k") is None
    shard.write_bytes(whole)
    assert parts.find("k") == record
    references = parts.references("k").read_bytes()
    parts.references("k").write_bytes(references[:-1])
    assert parts.find("k") is None
    parts.references("k").write_bytes(references)
    shard.unlink()
    assert list(parts.finished()) == []
    parts.record("j").write_text("{")
    assert parts.find("j") is None


def test_half_written_shards_never_appear(tmp_path: Path) -> None:
    def failing() -> object:
        yield a_table("a")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"no space left for .*free some and run again"), report_full_disk(tmp_path):
        write_shard(tmp_path / "k.parquet", failing())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    assert write_shard(tmp_path / "k.parquet", []) == 0 and list(tmp_path.iterdir()) == []


def test_half_numbers_are_split_into_bytes_and_others_keep_dictionaries(tmp_path: Path) -> None:
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(4, dtype=np.uint8).reshape(1, 2, 2))
    table = a_table("a").append_column("picture", pixels)
    write_shard(tmp_path / "k.parquet", [table])
    assert pq.read_table(tmp_path / "k.parquet").equals(table)
    row_group = pq.read_metadata(tmp_path / "k.parquet").row_group(0)
    encodings = {(c := row_group.column(at)).path_in_schema: set(c.encodings) for at in range(row_group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in encodings["latents.list.element"]
    assert all("RLE_DICTIONARY" in encodings[path] for path in ("id", "picture.list.element"))


def test_other_faults_of_the_disk_are_not_taken_for_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), report_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "denied")


def test_sweeping_keeps_what_is_used(tmp_path: Path) -> None:
    parts = FinishedUnits(tmp_path)
    keep(parts, "k", a_record_row("a"))
    keep(parts, "old", a_record_row("b"))
    (tmp_path / ".k.8x8.parquet.123.partial").write_bytes(b"half")
    assert [parts.begin("k"), parts.begin("k")] == [0, 1]
    parts.forget_unfinished()
    assert parts.begin("k") == 0
    parts.sweep({"k"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "k.8x8.parquet", "k.json", "k.references.parquet", "k.tries",
    ]  # fmt: skip


# -- the dataset


def test_shards_without_duplicates_are_the_same_files(tmp_path: Path) -> None:
    parts = FinishedUnits(tmp_path / "parts")
    record = keep(parts, "k", a_record_row("a"), a_record_row("b", picture_hash="ff" * 32))
    made = assemble(parts, [record.key], rows_of(a="A", b="B"), tmp_path / "out", keep_duplicates=False)
    (shard,) = bucket_shards(tmp_path / "out", "train")["8x8"].iterdir()
    assert shard.samefile(parts.shard("k", "8x8"))
    assert made.buckets == {"train": {"8x8": 2}, "validation": {}} and not made.rejects
    assert made.columns == {
        "id": "string", "latents": "halffloat[2, 2]", "reference": "int32", "others": "list<element: int32>",
    }  # fmt: skip
    (references,) = references_folder(tmp_path / "out", "train").iterdir()
    assert references.samefile(parts.references("k")) and references.name == shard.name
    assert made.references == {"reference": "int32", "id": "string", "deep": "halffloat[2, 2]"}


def test_unconfirmed_words_are_counted_without_duplicates(tmp_path: Path) -> None:
    parts = FinishedUnits(tmp_path / "parts")
    rows = [a_record_row("a"), a_record_row("b", word_from="caption", picture_hash="ff" * 32)]
    twin = a_record_row("c", word_from="caption", picture_hash="ff" * 31 + "fe", image="c.png")
    record = keep(parts, "k", *rows, twin)
    sources = {"a": "A", "b": "B", "c": "C"}
    for keep_duplicates, count in ((False, 1), (True, 2)):
        out = tmp_path / f"out {count}"
        made = assemble(parts, [record.key], rows_of(**sources), out, keep_duplicates=keep_duplicates)
        assert list(made.notes.values()) == [count]
    assert assemble(parts, [], rows_of(), tmp_path / "none", keep_duplicates=True).notes == {}


def test_later_near_duplicates_are_left_out_across_units_and_splits(tmp_path: Path) -> None:
    parts = FinishedUnits(tmp_path / "parts")
    first = keep(parts, "k", a_record_row("b"), a_record_row("c", picture_hash="0f" * 32), split="validation")
    second = keep(parts, "l", a_record_row("a", picture_hash="00" * 31 + "01"), a_record_row("d"))
    sources = {"a": "A", "b": "B", "c": "C", "d": "D"}
    made = assemble(parts, [first.key, second.key], rows_of(**sources), tmp_path / "out", keep_duplicates=False)
    assert made.buckets == {"train": {"8x8": 1}, "validation": {"8x8": 1}}
    reason = "near-duplicate of another picture"
    assert made.rejects == [Reject("b", "B", "duplicate", reason, "a"), Reject("d", "D", "duplicate", reason, "a")]
    kept = {
        split: pq.read_table(bucket_shards(tmp_path / "out", split)["8x8"], partitioning=None)
        for split in ("train", "validation")
    }
    assert kept["train"]["id"].to_pylist() == ["a"] and kept["validation"]["id"].to_pylist() == ["c"]
    # The rows that stay keep their tensors.
    assert kept["validation"]["latents"].combine_chunks().to_numpy_ndarray().tolist() == [[[0, 1], [2, 3]]]
    both = assemble(parts, [first.key, second.key], rows_of(**sources), tmp_path / "all", keep_duplicates=True)
    assert not both.rejects and both.buckets == {"train": {"8x8": 2}, "validation": {"8x8": 2}}


def test_near_duplicates_are_other_views_only_where_there_is_no_other(tmp_path: Path) -> None:
    """Of a, b and c in one unit b is a near-duplicate of a, in another bucket; e of d, its only partner."""
    parts = FinishedUnits(tmp_path / "parts")
    far = [a_record_row("a"), a_record_row("b", bucket="8x16"), a_record_row("c", picture_hash="0f" * 32)]
    near = [a_record_row("d", picture_hash="f0" * 32), a_record_row("e", picture_hash="f0" * 32)]
    records = [keep(parts, "k", *far), keep(parts, "l", *near)]
    sources = {name: name for name in "abcde"}
    made = assemble(parts, [each.key for each in records], rows_of(**sources), tmp_path / "out", keep_duplicates=False)
    assert made.buckets["train"] == {"8x8": 3}
    found = {row["id"]: row for row in dataset_rows(tmp_path / "out")}
    assert {name: [each["id"] for each in row["partners"]] for name, row in found.items()} == {
        "a": ["c"], "c": ["a"], "d": ["e"],
    }  # fmt: skip
    assert {name: row["own"]["id"] for name, row in found.items()} == {"a": "a", "c": "c", "d": "d"}
    assert found["c"]["own"]["deep"].tolist() == [[8, 9], [10, 11]]
    stored = pq.read_table(references_folder(tmp_path / "out", "train"), partitioning=None)
    assert sorted(stored["id"].to_pylist()) == ["a", "c", "d", "e"], "what no row shows is not stored"


def test_unit_of_duplicates_alone_leaves_no_shard(tmp_path: Path) -> None:
    parts = FinishedUnits(tmp_path / "parts")
    records = [keep(parts, "k", a_record_row("a")), keep(parts, "l", a_record_row("b", bucket="8x16"))]
    made = assemble(
        parts, [each.key for each in records], rows_of(a="A", b="B"), tmp_path / "out", keep_duplicates=False
    )
    assert made.buckets["train"] == {"8x8": 1} and list(bucket_shards(tmp_path / "out", "train")) == ["8x8"]


def first_alike(rows: Sequence[RowRecord]) -> list[int]:
    pictures = np.array([digest(row.image) for row in rows], np.uint64)
    found: list[int] = duplicates(pictures, np.stack([hash_bits(row.picture_hash) for row in rows])).tolist()
    return found


def test_captions_of_one_picture_are_no_duplicates_but_share_its_fate() -> None:
    one = [a_record_row("a"), a_record_row("a#2", image="a")]
    twin = [a_record_row("b"), a_record_row("b#2", image="b")]
    assert first_alike(one) == [0, 1]
    assert first_alike([*one, *twin]) == [0, 1, 0, 0]


# -- pictures that kill


@dataclass(frozen=True)
class DeadlyStore(SourceFiles):
    """A store one of whose pictures brings down the process that reads it."""

    def read(self, address: str, max_bytes: int | None = None) -> bytes:
        if address == "deadly.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(address, max_bytes)


@pytest.fixture
def deadly(tmp_path: Path) -> CurateSettings:
    for name in ("a", "deadly", "b"):
        Image.linear_gradient("L").resize((40, 40)).save(tmp_path / f"{name}.png")
    store = DeadlyStore(os.path.realpath(tmp_path))
    return CurateSettings(store, (Bucket(32, 32),), 32, 10**6, 10**6, "original")


def test_picture_that_kills_its_reader_is_found(deadly: CurateSettings) -> None:
    jobs = plan([source_row(name, name) for name in ("a.png", "deadly.png", "b.png")])
    kept, rejects = screen(jobs, deadly)
    assert [job["row"]["subject"]["id"] for job in kept] == ["a.png", "b.png"]
    assert rejects == [Reject("deadly.png", "deadly.png", "curate", "the process that read it died")]


def test_unit_that_was_begun_too_often_is_screened(deadly: CurateSettings, tmp_path: Path) -> None:
    unit = Unit(tuple(marked(plan([source_row(name, name) for name in ("a.png", "deadly.png")]))))
    parts = FinishedUnits(tmp_path)
    for _ in range(3):
        parts.begin(unit.key)
    parts.plan(unit)
    (block,) = curate_units(pa.table({KEY: [unit.key]}), deadly, parts)
    _, curated = read_curated(block, 0)
    assert [row.id for row in curated.rows] == ["a.png"]
    assert [reject.id for reject in curated.rejects] == ["deadly.png"]
