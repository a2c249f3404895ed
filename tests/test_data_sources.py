"""Readers: every row in order, every fault named before any work is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.config import DataConfig
from components.data.sources import read_source
from components.errors import DataError

DREAMBENCH = Path(__file__).parents[2] / "shared" / "dreambench" / "dataset"
needs_dreambench = pytest.mark.skipif(
    not DREAMBENCH.is_dir(), reason=f"the photographs of DreamBench are not at {DREAMBENCH}"
)


def jsonl(folder: Path, *rows: Any) -> DataConfig:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return DataConfig(source=folder)


def row(image: str = "a.png", **fields: Any) -> dict[str, Any]:
    return {"image": image, "caption": "a cat", "word": "cat", **fields}


def test_jsonl_keeps_order_and_names_every_row(tmp_path: Path) -> None:
    source = read_source(jsonl(tmp_path, row("b.png", group="x"), "", row("a.png"), row("b.png")))
    assert [r["subject"]["id"] for r in source.rows] == ["b.png", "a.png", "b.png#2"]
    assert [r["group"] for r in source.rows] == ["x", "a.png", "b.png#2"]


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
