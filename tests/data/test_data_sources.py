"""Readers: every row in order, every fault named before any work is done."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.config import DataConfig, WorldConfig
from components.data.rejects import PassedOver
from components.data.sources import Source, read_source
from components.data.sources import read as read_module
from components.errors import DataError
from components.world.write import write_world

DREAMBENCH = Path(__file__).parents[3] / "shared" / "dreambench" / "dataset"
needs_dreambench = pytest.mark.skipif(
    not DREAMBENCH.is_dir(), reason=f"the photographs of DreamBench are not at {DREAMBENCH}"
)


def jsonl(folder: Path, *rows: Any) -> DataConfig:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return DataConfig(source=folder)


def row(image: str = "a.png", **fields: Any) -> dict[str, Any]:
    return {"image": image, "caption": "a cat", "word": "cat", **fields}


def read(data: DataConfig, columns: dict[str, str]) -> Source:
    return read_source(data.model_copy(update={"columns": columns}))


def touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_jsonl_keeps_order_and_names_every_row(tmp_path: Path) -> None:
    source = read_source(jsonl(tmp_path, row("b.png", group="x"), "", row("a.png"), row("b.png")))
    assert [r["subject"]["id"] for r in source.rows] == ["b.png", "a.png", "b.png#2"]
    assert [r["group"] for r in source.rows] == ["x", "a.png", "b.png"]  # captions of one picture stay together


def test_a_limit_reads_the_first_rows_and_no_further(tmp_path: Path) -> None:
    data = jsonl(tmp_path, row("a.png"), row("b.png"), row("c.png"), "not JSON")
    rows = read_source(data.model_copy(update={"limit": 2})).rows
    assert [r["subject"]["id"] for r in rows] == ["a.png", "b.png"]
    with pytest.raises(DataError, match="line 4"):
        read_source(data.model_copy(update={"limit": 4}))


def test_file_itself_may_be_named(tmp_path: Path) -> None:
    data = jsonl(tmp_path, row())
    named = data.model_copy(update={"source": tmp_path / "pairs.jsonl"})
    assert read_source(named) == read_source(data)


def test_line_separators_inside_a_caption_do_not_break_a_line(tmp_path: Path) -> None:
    text = json.dumps(row(caption="a cat\u2028sits"), ensure_ascii=False)
    assert read_source(jsonl(tmp_path, text)).rows[0]["caption"] == "a cat\u2028sits"


def test_csv_reads_what_jsonl_reads(tmp_path: Path) -> None:
    boxed = row(box=[1, 2, 3, 4], head_box=[1, 2, 2, 3], references=["b.png"])
    expected = read_source(jsonl(tmp_path, boxed, row("b.png", caption="a\ncat")))
    assert [r["subject"]["head_box"] for r in expected.rows] == [(1, 2, 2, 3), None]
    (tmp_path / "pairs.csv").write_text(
        "image,caption,word,mask,box,head_box,references\n"
        'a.png,a cat,cat,,"[1,2,3,4]","[1,2,2,3]","[""b.png""]"\nb.png,"a\ncat",cat,,,,\n'
    )
    assert read_source(DataConfig(format="csv", source=tmp_path)) == expected


def test_all_schema_errors_are_one_error_that_names_line_and_field(tmp_path: Path) -> None:
    data = jsonl(tmp_path, row(), {"image": "a.png"}, "{broken", row(box=[5, 5, 1, 1]), row(caption=""))
    with pytest.raises(DataError, match=r"line 2: caption: .*line 3.*line 4: box.*\(and 1 more\)"):
        read_source(data)


@pytest.mark.parametrize("cells", ["a.png,a cat,nonsense,", "a.png,a cat,,nonsense"])
def test_csv_cell_that_is_no_list_is_refused(tmp_path: Path, cells: str) -> None:
    (tmp_path / "pairs.csv").write_text(f"image,caption,box,references\n{cells}\n")
    with pytest.raises(DataError, match=r"line 2: (box|references)"):
        read_source(DataConfig(format="csv", source=tmp_path))


@pytest.mark.parametrize("field", ["image", "mask", "references"])
@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "sub/../../secret.png"])
def test_paths_that_leave_the_source_are_refused(tmp_path: Path, field: str, path: str) -> None:
    data = jsonl(tmp_path, row(**{field: [path] if field == "references" else path}))
    with pytest.raises(DataError, match=f"{field}: the path leaves"):
        read_source(data)


def test_links_that_leave_the_source_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="image: the path leaves"):
        read_source(jsonl(folder, row("a.png")))


@pytest.mark.parametrize("form", ["jsonl", "csv", "dreambench"])
def test_missing_source_is_named_with_its_field(tmp_path: Path, form: Any) -> None:
    with pytest.raises(DataError, match=r"data\.source: .*nowhere does not exist"):
        read_source(DataConfig(format=form, source=tmp_path / "nowhere"))


def test_empty_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_source(jsonl(tmp_path, ""))
    (tmp_path / "prompts_and_classes.txt").write_text("subject_name,class\ncat,cat\n\nPrompts\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_source(DataConfig(format="dreambench", source=tmp_path))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_source(DataConfig(source=tmp_path))


def test_dreambench_folders_take_their_class_from_the_list(tmp_path: Path) -> None:
    (tmp_path / "prompts_and_classes.txt").write_text("Classes\n\nsubject_name,class\nbear_plushie,stuffed animal\n")
    (tmp_path / "bear_plushie").mkdir()
    for name in ("01.jpg", "00.jpg", "notes.txt"):
        (tmp_path / "bear_plushie" / name).touch()
    rows = read_source(DataConfig(format="dreambench", source=tmp_path)).rows
    assert [r["subject"]["id"] for r in rows] == ["bear_plushie/00.jpg", "bear_plushie/01.jpg"]
    assert {(r["caption"], r["word"], r["group"]) for r in rows} == {
        ("a photo of a stuffed animal", "stuffed animal", "bear_plushie")
    }
    assert rows[0]["references"] == ["bear_plushie/01.jpg"]


def test_dreambench_folder_without_a_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts_and_classes.txt").write_text("subject_name,class\ncat,cat\n")
    (tmp_path / "dragon").mkdir()
    (tmp_path / "dragon" / "00.jpg").touch()
    with pytest.raises(DataError, match="no class for 'dragon'"):
        read_source(DataConfig(format="dreambench", source=tmp_path))


@needs_dreambench
def test_every_photograph_of_dreambench_is_a_row() -> None:
    rows = read_source(DataConfig(format="dreambench", source=DREAMBENCH)).rows
    assert {r["subject"]["image"] for r in rows} == {str(p.relative_to(DREAMBENCH)) for p in DREAMBENCH.glob("*/*.jpg")}
    assert {r["group"]: r["word"] for r in rows}["grey_sloth_plushie"] == "stuffed animal"


# -- columns of other names


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    data = jsonl(tmp_path, {"file": "a.png", "text": "a cat", "source": 5, "subject": 7})
    mapped = read(data, columns={"image": "file", "caption": "text", "source": "", "group": "subject"})
    assert mapped.rows[0]["subject"]["image"] == "a.png" and mapped.rows[0]["caption"] == "a cat"
    assert (mapped.rows[0]["group"], mapped.rows[0]["source"]) == ("7", "a.png")


def test_field_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.columns: 'text' is not a field; the fields are image, caption"):
        read(jsonl(tmp_path, row()), columns={"text": "caption"})


def test_missing_column_names_file_field_and_what_is_there(tmp_path: Path) -> None:
    said = r"caption: no column 'caption' \(there are: image, text\); name its column, --set 'data\.columns=\{caption"
    with pytest.raises(DataError, match=said):
        read_source(jsonl(tmp_path, {"image": "a.png", "text": "a cat"}))
    (tmp_path / "pairs.csv").write_text("image,text\na.png,a cat\n")
    with pytest.raises(DataError, match=f"pairs.csv: {said}"):
        read_source(DataConfig(format="csv", source=tmp_path))
    pq.write_table(pa.table({"image": ["a.png"], "text": ["a cat"]}), tmp_path / "part.parquet")
    with pytest.raises(DataError, match=f"part.parquet: {said}"):
        read_source(DataConfig(format="parquet", source=tmp_path))
    with pytest.raises(DataError, match="word: no column 'noun'"):
        read_source(DataConfig(format="csv", source=tmp_path, columns={"caption": "text", "word": "noun"}))


def test_wrong_type_names_the_field_and_its_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: caption \(column 'text'\): Input should be a valid string"):
        read(jsonl(tmp_path, {"image": "a.png", "text": 7}), columns={"caption": "text"})


# -- image folders


def test_folder_takes_captions_and_masks_beside_the_pictures(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", "a.mask.png", "deep/c.webp", "notes.md"):
        touch(tmp_path / name)
    for name, caption in {"a": "a cat\n", "b": "a dog", "deep/c": "a bird"}.items():
        (tmp_path / f"{name}.txt").write_text(caption)
    rows = read_source(DataConfig(format="folder", source=tmp_path)).rows
    assert [(r["subject"]["image"], r["subject"]["mask"], r["caption"]) for r in rows] == [
        ("a.png", "a.mask.png", "a cat"),
        ("b.jpg", None, "a dog"),
        ("deep/c.webp", None, "a bird"),
    ]


def test_folder_picture_without_a_caption_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: caption: no column"):
        read_source(DataConfig(format="folder", source=tmp_path))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_folder_reads_metadata_as_hugging_face_has_it(tmp_path: Path, form: str, caplog: Any) -> None:
    for name in ("x/1.png", "x/2.png", "x/masks/1.png", "y.png", "unlisted.png"):
        touch(tmp_path / name)
    (tmp_path / "y.txt").write_text("a dog")
    lines = [("2.png", "two cats", None), ("1.png", "a cat", "masks/1.png")]
    names = ("file_name", "text", "mask")
    if form == "jsonl":
        text = "\n".join(json.dumps(dict(zip(names, line, strict=True))) for line in lines)
    else:
        text = "\n".join(",".join(cell or "" for cell in line) for line in (names, *lines))
    (tmp_path / "x" / f"metadata.{form}").write_text(text)
    rows = read(DataConfig(format="folder", source=tmp_path), columns={"caption": "text"}).rows
    assert [(r["subject"]["id"], r["subject"]["mask"], r["caption"]) for r in rows] == [
        ("x/2.png", None, "two cats"),
        ("x/1.png", "x/masks/1.png", "a cat"),
        ("y.png", None, "a dog"),
    ]
    assert "passed over 1 pictures without a row or a caption: unlisted.png" in caplog.text


def test_metadata_may_not_leave_the_source(tmp_path: Path) -> None:
    touch(tmp_path / "source" / "b.png")
    folder = tmp_path / "source" / "x"
    folder.mkdir()
    for path, fine in {"../b.png": True, "../../secret.png": False, "/etc/passwd": False}.items():
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": path, "caption": "a cat"}))
        data = DataConfig(format="folder", source=tmp_path / "source")
        if fine:
            assert read_source(data).rows[0]["subject"]["image"] == "b.png"
        else:
            with pytest.raises(DataError, match="image: the path leaves"):
                read_source(data)


# -- tables


HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(**columns: Any) -> pa.Table:
    images = [{"bytes": b"one", "path": "x.png"}, {"bytes": None, "path": "b.png"}, {"bytes": b"three", "path": None}]
    return pa.table({"image": pa.array(images, HF_IMAGE), "caption": ["a cat", "a dog", "a bird"], **columns})


def save_to_disk(folder: Path, content: pa.Table, rows_per_batch: int = 2) -> None:
    """As `datasets.Dataset.save_to_disk` lays it out."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content, max_chunksize=rows_per_batch)
    state = {"_data_files": [{"filename": name}], "_fingerprint": "0", "_format_type": None, "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def write_table(form: str, folder: Path, content: pa.Table) -> DataConfig:
    if form == "parquet":
        pq.write_table(content, folder / "part-0.parquet", row_group_size=2)
    else:
        save_to_disk(folder, content)
    return DataConfig(format=form, source=folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["parquet", "datasets"])
def test_tables_hold_bytes_and_paths(tmp_path: Path, form: str) -> None:
    (tmp_path / "b.png").write_bytes(b"two")
    boxes = pa.array([[1, 2, 3, 4], None, None], pa.list_(pa.int64()))
    content = table(box=boxes, mask=pa.array([None, None, b"mask"], pa.binary()), group=[1, 1, 2])
    source = read_source(write_table(form, tmp_path, content))
    assert [source.store.read(r["subject"]["image"]) for r in source.rows] == [b"one", b"two", b"three"]
    file = "part-0.parquet" if form == "parquet" else "data-00000-of-00001.arrow"
    assert [r["subject"]["id"] for r in source.rows] == [f"{file}!0", "b.png", f"{file}!2"]
    assert [r["subject"]["box"] for r in source.rows] == [(1, 2, 3, 4), None, None]
    assert [r["group"] for r in source.rows] == ["1", "1", "2"]
    masks = [r["subject"]["mask"] for r in source.rows]
    assert masks[:2] == [None, None] and masks[2] and source.store.read(masks[2]) == b"mask"


@pytest.mark.parametrize("form", ["parquet", "datasets"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_plain_picture_columns(tmp_path: Path, form: str, kind: pa.DataType) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    value = "a.png" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else b"content"
    content = pa.table({"image": pa.array([value], kind), "caption": ["a cat"]})
    source = read_source(write_table(form, tmp_path, content))
    assert source.store.read(source.rows[0]["subject"]["image"]) == b"content"


@pytest.mark.parametrize("form", ["parquet", "datasets"])
def test_names_of_labels_stand_for_their_numbers(tmp_path: Path, form: str) -> None:
    features = {"label": {"names": ["cat", "dog", "bird"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    content = table(label=[0, 1, -1]).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    data = write_table(form, tmp_path, content)
    (tmp_path / "b.png").touch()
    assert [r["word"] for r in read(data, columns={"word": "label"}).rows] == ["cat", "dog", None]


@pytest.mark.parametrize("form", ["parquet", "datasets"])
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"caption": [["a cat"]], "image": ["a.png"]}, r"caption: column 'caption' is list<.*>, not text"),
        ({"caption": ["a cat"], "image": [[b"a"]]}, r"image: column 'image' is list<.*>, not bytes, a path"),
        ({"caption": ["a cat"], "image": ["a.png"], "box": ["1,2,3,4"]}, "box: column 'box' is string, not a list"),
        ({"caption": ["a cat"], "image": ["a.png"], "references": [[1]]}, "references: .*, not a list of paths"),
        ({"caption": ["a cat"], "image": [{"x": 1}]}, "image: column 'image' is struct<"),
        ({"caption": ["a cat"], "image": ["a.png"], "word": [3]}, "word: column 'word' is int64, not text"),
    ],
)
def test_column_of_another_type_is_refused_before_rows_are_read(
    tmp_path: Path, form: str, columns: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_module._Checked, "add", lambda *_: pytest.fail("a row was read"))
    with pytest.raises(DataError, match=said):
        read_source(write_table(form, tmp_path, pa.table(columns)))


def test_row_with_neither_bytes_nor_path_is_named(tmp_path: Path) -> None:
    content = pa.table({"image": pa.array([{"bytes": None, "path": None}], HF_IMAGE), "caption": ["a cat"]})
    with pytest.raises(DataError, match=r"part-0\.parquet row 0: image: Field required"):
        read_source(write_table("parquet", tmp_path, content))


def test_no_picture_is_read_with_the_rows(tmp_path: Path) -> None:
    """Picture pages are overwritten: rows are read all the same, and reading a picture then fails."""
    content = pa.table({"image": [os.urandom(20_000) for _ in range(50)], "caption": ["a cat"] * 50})
    data = write_table("parquet", tmp_path, content)
    file = tmp_path / "part-0.parquet"
    raw = bytearray(file.read_bytes())
    chunk = pq.read_metadata(file).row_group(3).column(0)
    start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
    raw[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    file.write_bytes(raw)
    source = read_source(data)
    assert len(source.rows) == 50
    with pytest.raises(DataError):
        source.store.read(source.rows[6]["subject"]["image"])


def test_several_parquet_files_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": [f"{name[-1]}.png"], "caption": ["a cat"]}), tmp_path / f"{name}.parquet")
    rows = read_source(DataConfig(format="parquet", source=tmp_path)).rows
    assert [r["subject"]["id"] for r in rows] == ["a.png", "b.png", "sub/c.png"]
    one = read_source(DataConfig(format="parquet", source=tmp_path / "b.parquet")).rows
    assert one == rows[1:2]


@pytest.mark.parametrize("form", ["parquet", "datasets", "webdataset"])
def test_damaged_containers_are_named(tmp_path: Path, form: str) -> None:
    for name in ("x.parquet", "data-0.arrow", "x.tar"):
        (tmp_path / name).write_bytes(b"nonsense" * 200)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    with pytest.raises(DataError, match=r"data\.source: .*: (x\.parquet|data-0\.arrow|x\.tar) cannot be read as"):
        read_source(DataConfig(format=form, source=tmp_path))  # type: ignore[arg-type]


def test_directory_of_splits_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split in ("train", "test"):
        save_to_disk(tmp_path / split, pa.table({"image": ["a.png"], "caption": ["a cat"]}))
    with pytest.raises(DataError, match=r"splits test, train; name one"):
        read_source(DataConfig(format="datasets", source=tmp_path))
    assert len(read_source(DataConfig(format="datasets", source=tmp_path / "train")).rows) == 1


@pytest.mark.parametrize("state", ["{", "[]", "{}", '{"_data_files": [{"filename": "../x.arrow"}]}'])
def test_state_that_names_no_files_below_is_refused(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(DataError, match=r"state\.json|leaves the source"):
        read_source(DataConfig(format="datasets", source=tmp_path))


# -- bad rows


FORMATS = ("jsonl", "csv", "folder", "metadata", "parquet", "datasets", "webdataset")
#: Caption of the bad row.
BAD_CAPTIONS = {"null": None, "empty": "", "other bytes": b"the robot\x92s room"}


def write_rows(form: str, folder: Path, captions: list[str | bytes | None]) -> DataConfig:
    """A source of ``form`` with a picture for each caption."""
    names = [f"p{index}.png" for index in range(len(captions))]
    encoded = [caption.encode() if isinstance(caption, str) else caption for caption in captions]
    if form in ("parquet", "datasets"):
        text = pa.array(encoded, pa.binary()).view(pa.string())
        return write_table(form, folder, pa.table({"image": names, "caption": text}))
    if form == "webdataset":
        members = {name: b"picture" for name in names}
        texts = {f"p{index}.txt": text for index, text in enumerate(encoded) if text is not None}
        tar(folder / "x.tar", dict(sorted((members | texts).items())))
    elif form == "folder":
        for name, text in zip(names, encoded, strict=True):
            touch(folder / name)
            if text is not None:
                (folder / name).with_suffix(".txt").write_bytes(text)
    elif form == "csv":
        lines = [
            b"image,caption",
            *(f"{name},".encode() + (text or b"") for name, text in zip(names, encoded, strict=True)),
        ]
        (folder / "pairs.csv").write_bytes(b"\n".join(lines))
    else:
        quoted = [b"null" if text is None else b'"' + text + b'"' for text in encoded]
        key = "file_name" if form == "metadata" else "image"
        lines = [f'{{"{key}": "{n}", "caption": '.encode() + t + b"}" for n, t in zip(names, quoted, strict=True)]
        (folder / ("metadata.jsonl" if form == "metadata" else "pairs.jsonl")).write_bytes(b"\n".join(lines))
    return DataConfig(format="folder" if form == "metadata" else form, source=folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bad", BAD_CAPTIONS)
def test_a_bad_row_of_any_format_is_rejected_with_its_reason(tmp_path: Path, form: str, bad: str) -> None:
    captions = ["a cat"] * 6
    captions[2] = BAD_CAPTIONS[bad]  # type: ignore[call-overload]
    source = read_source(write_rows(form, tmp_path, captions))
    assert len(source.rows) == 5 and len(source.rejects) == 1
    (reject,) = source.rejects
    said = "UTF-8|txt cannot be read" if bad == "other bytes" else "caption"
    assert reject.stage == "source" and re.search(said, reject.reason), reject


@pytest.mark.parametrize("form", FORMATS)
def test_a_share_of_bad_rows_stops_with_reasons(tmp_path: Path, form: str) -> None:
    data = write_rows(form, tmp_path, ["a cat", "", "a dog", ""])
    with pytest.raises(DataError, match=r"2 of 4 rows are rejected \(data\.max_rejected is 0\.2\): .*caption"):
        read_source(data)
    assert len(read_source(data.model_copy(update={"max_rejected": 0.5})).rows) == 2


@pytest.mark.parametrize("form", ["parquet", "datasets", "webdataset"])
def test_a_damaged_container_among_others_is_one_reject(tmp_path: Path, form: str) -> None:
    data = write_rows(form, tmp_path, ["a cat"] * 8)
    name = {"parquet": "z.parquet", "datasets": "z.arrow", "webdataset": "z.tar"}[form]
    (tmp_path / name).write_bytes(b"nonsense" * 200)
    if form == "datasets":
        state = json.loads((tmp_path / "state.json").read_text())
        state["_data_files"].append({"filename": name})
        (tmp_path / "state.json").write_text(json.dumps(state))
    source = read_source(data)
    assert len(source.rows) == 8 and [reject.id for reject in source.rejects] == [name]


def test_a_damaged_row_group_rejects_its_rows(tmp_path: Path) -> None:
    table = pa.table({"image": [f"{i}.png" for i in range(10)], "caption": [f"a cat {i}" * 20 for i in range(10)]})
    file = tmp_path / "x.parquet"
    pq.write_table(table, file, row_group_size=1, compression="gzip", use_dictionary=False)
    raw = bytearray(file.read_bytes())
    chunk = pq.read_metadata(file).row_group(3).column(1)
    start = chunk.data_page_offset
    raw[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    file.write_bytes(raw)
    source = read_source(DataConfig(format="parquet", source=tmp_path))
    assert len(source.rows) == 9 and [reject.id for reject in source.rejects] == ["x.parquet row 3"]


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_rows("folder", tmp_path, ["a cat"] * 5)
    for name in (".DS_Store", ".ipynb_checkpoints/p0-checkpoint.png", "Thumbs.db", "notes.md", "__MACOSX/p0.png"):
        touch(tmp_path / name)
    source = read_source(data)
    assert len(source.rows) == 5
    hidden = source.passed_over["hidden and system files"]
    assert (hidden.count, set(hidden.names)) == (
        4,
        {".DS_Store", ".ipynb_checkpoints/p0-checkpoint.png", "Thumbs.db", "__MACOSX/p0.png"},
    )
    assert source.passed_over["files of other kinds"] == PassedOver(1, ("notes.md",))
    assert "passed over 4 hidden and system files" in caplog.text


@pytest.mark.parametrize("name", ["b.jfif", "b.JPE", "b.gif", "b.heic", "b", "b.photo"])
def test_what_may_be_a_picture_is_read_whatever_its_ending(tmp_path: Path, name: str) -> None:
    data = write_rows("folder", tmp_path, ["a cat"])
    Image.new("RGB", (8, 8)).save(tmp_path / name, format="JPEG")
    (tmp_path / "b.txt").write_text("a dog")
    assert {row["subject"]["image"] for row in read_source(data).rows} == {"p0.png", name}


# -- WebDataset


def tar(file: Path, members: dict[str, bytes | str | dict[str, Any]], *others: tarfile.TarInfo) -> None:
    with tarfile.open(file, "w") as archive:
        for info in others:
            archive.addfile(info)
        for name, value in members.items():
            data = (
                value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
            )
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_samples_of_a_tar_share_their_name_up_to_the_first_dot(tmp_path: Path) -> None:
    tar(
        tmp_path / "shard-1.tar",
        {
            "x/0.jpg": b"zero",
            "x/0.mask.png": b"mask",
            "x/0.txt": "a cat\n",
            "x/0.cls": "cat",
            "x/1.PNG": b"one",
            "x/1.json": {"caption": "a dog", "box": [1, 2, 3, 4], "references": ["x/0.jpg"]},
            "x/1.cls": "17",
        },
    )
    tar(tmp_path / "shard-0.tar", {"x/0.webp": b"other", "x/0.txt": "a bird"})
    source = read_source(DataConfig(format="webdataset", source=tmp_path))
    assert [r["subject"]["id"] for r in source.rows] == [
        "shard-0.tar!x/0.webp",
        "shard-1.tar!x/0.jpg",
        "shard-1.tar!x/1.PNG",
    ]
    assert [source.store.read(r["subject"]["image"]) for r in source.rows] == [b"other", b"zero", b"one"]
    assert [(r["caption"], r["word"]) for r in source.rows] == [("a bird", None), ("a cat", "cat"), ("a dog", None)]
    assert source.rows[1]["subject"]["mask"] and source.store.read(source.rows[1]["subject"]["mask"]) == b"mask"
    assert source.rows[2]["subject"]["box"] == (1, 2, 3, 4)
    assert source.rows[2]["references"] == [source.rows[1]["subject"]["image"]]
    assert read_source(DataConfig(format="webdataset", source=tmp_path / "shard-0.tar")).rows == source.rows[:1]


def test_hostile_members_are_passed_over(tmp_path: Path) -> None:
    others = [
        entry("a.png", tarfile.SYMTYPE, "/etc/passwd"),
        entry("b.png", tarfile.LNKTYPE, "c.png"),
        entry("dir.png", tarfile.DIRTYPE),
        entry("dev.png", tarfile.CHRTYPE),
        entry("pipe.png", tarfile.FIFOTYPE),
        entry(".hidden", tarfile.REGTYPE),
    ]
    tar(tmp_path / "x.tar", {"c.png": b"mine", "c.txt": "a cat", "README": "none", "._c.png": b"resource"}, *others)
    source = read_source(DataConfig(format="webdataset", source=tmp_path))
    assert [r["subject"]["id"] for r in source.rows] == ["x.tar!c.png"]
    assert source.store.read(source.rows[0]["subject"]["image"]) == b"mine"
    passed = source.passed_over["members of archives with other endings"]
    assert passed.count == 7 and "x.tar: README" in passed.names, "all but the folder"


@pytest.mark.parametrize("name", ["/etc/cat.png", "../cat.png", "x/../../cat.png"])
def test_members_whose_names_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    tar(tmp_path / "x.tar", {name: b"picture"})
    with pytest.raises(DataError, match=r"x\.tar: .*leaves the archive"):
        read_source(DataConfig(format="webdataset", source=tmp_path))


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"a.txt": "a cat"}, "a: image: no column 'image'"),
        ({"a.png": b"x"}, "a: caption: no column 'caption'"),
        ({"a.png": b"x", "a.jpg": b"y", "a.txt": "a cat"}, r"several pictures \(png, jpg\)"),
        ({"a.png": b"x", "a.txt": b"\xff"}, "the txt cannot be read"),
        ({"a.png": b"x", "a.txt": b"x" * 2_000_000}, "the txt is larger than"),
        ({"a.png": b"x", "a.json": "{"}, "the json cannot be read"),
        ({"a.png": b"x", "a.json": "[1]"}, "the json is not an object"),
        ({"a.png": b"x", "a.txt": "a", "a.json": {"mask": "../b.png"}}, "mask: '../b.png' is not a picture"),
    ],
)
def test_sample_that_is_no_row_is_named(tmp_path: Path, sample: dict[str, Any], said: str) -> None:
    tar(tmp_path / "x.tar", sample)
    with pytest.raises(DataError, match=rf"x\.tar: a: .*{said.removeprefix('a: ')}"):
        read_source(DataConfig(format="webdataset", source=tmp_path))


def test_endings_can_be_named_as_columns(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"a.png": b"x", "a.jpg": b"y", "a.text": "a cat"})
    source = read(DataConfig(format="webdataset", source=tmp_path), columns={"image": "jpg", "caption": "text"})
    assert source.rows[0]["caption"] == "a cat"
    assert source.store.read(source.rows[0]["subject"]["image"]) == b"y"


def test_compressed_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(gzip.compress(b"\0" * 10240))
    with pytest.raises(DataError, match="uncompressed tar"):
        read_source(DataConfig(format="webdataset", source=tmp_path))


# -- other places


def test_world_reads_what_the_world_drew_and_says_how_to_draw_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist.*realcustom world"):
        read_source(DataConfig(format="world", source=tmp_path / "nowhere"))
    root = write_world(WorldConfig(identities=2, pictures_per_identity=2, output=tmp_path / "raw"), seed=1)
    source = read_source(DataConfig(format="world", source=root))
    assert len(source.rows) == 4
    assert all(source.store.read(r["subject"]["image"]) for r in source.rows)


@pytest.fixture(params=["memory", "s3"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a place for sources."""
    if request.param == "s3":
        yield f"{request.getfixturevalue('s3_bucket')}/remote"
        return
    yield "memory://remote"
    fsspec.filesystem("memory").rm("/remote", recursive=True)


@pytest.mark.parametrize("form", ["jsonl", "csv", "folder", "parquet", "webdataset", "dreambench", "datasets"])
def test_remote_sources_read_as_local_ones(tmp_path: Path, elsewhere: str, form: Any) -> None:
    (tmp_path / "cat").mkdir()
    for name in ("cat/1.png", "cat/2.png"):
        (tmp_path / name).write_bytes(name.encode())
        (tmp_path / name).with_suffix(".txt").write_text("a cat")
    jsonl(tmp_path, row("cat/1.png"), row("cat/2.png"))
    (tmp_path / "pairs.csv").write_text("image,caption\ncat/1.png,a cat\ncat/2.png,a cat\n")
    (tmp_path / "prompts_and_classes.txt").write_text("subject_name,class\ncat,cat\n")
    content = pa.table({"image": [b"one", b"two"], "caption": ["a cat", "a cat"]})
    pq.write_table(content, tmp_path / "part-0.parquet")
    save_to_disk(tmp_path, content)
    tar(tmp_path / "x.tar", {"1.png": b"one", "1.txt": "a cat"})
    filesystem, root = fsspec.core.url_to_fs(elsewhere)
    filesystem.put(f"{tmp_path}/", f"{root}/", recursive=True)
    local = read_source(DataConfig(format=form, source=tmp_path))
    remote = read_source(DataConfig(format=form, source=elsewhere))
    assert remote.rows == local.rows and len(local.rows) >= 1
    for one in local.rows:
        address = one["subject"]["image"]
        assert remote.store.read(address) == local.store.read(address)


def test_remote_paths_may_not_leave_the_source_either() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/source/pairs.jsonl", json.dumps(row("../secret.png")).encode())
    try:
        with pytest.raises(DataError, match="image: the path leaves"):
            read_source(DataConfig(source="memory://source"))
        with pytest.raises(DataError, match=r"memory://nowhere does not exist"):
            read_source(DataConfig(source="memory://nowhere"))
    finally:
        memory.rm("/source", recursive=True)


def test_path_that_reads_as_a_member_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"secret")
    with pytest.raises(DataError, match="reads as a member of a container; rename"):
        read_source(jsonl(tmp_path, row("x.tar!a@0+6")))


def test_rows_and_names_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        tar(tmp_path / f"{name}.tar", {f"{n}.png": b"x" for n in "21"} | {f"{n}.txt": "a cat" for n in "21"})
    with pytest.raises(DataError, match="no column"):  # a sample's files stand together
        read_source(DataConfig(format="webdataset", source=tmp_path))
    for name in ("b", "a", "c"):
        tar(tmp_path / f"{name}.tar", {f"{n}.{e}": "x" for n in "21" for e in ("png", "txt")})
    first = read_source(DataConfig(format="webdataset", source=tmp_path))
    assert first == read_source(DataConfig(format="webdataset", source=tmp_path))
    assert [r["subject"]["id"] for r in first.rows] == [f"{t}.tar!{n}.png" for t in "abc" for n in "21"]
