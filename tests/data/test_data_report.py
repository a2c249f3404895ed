"""The report: true to the dataset, harmless whatever a user wrote, and of bounded size."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from components.data.aspect_buckets import Bucket
from components.data.manifest import MANIFEST, load_manifest
from components.data.prepare import Prepared
from components.data.report.drawing import extent, outline, thumbnail
from components.data.report.page import REPORT, RowPictures, write_report
from components.data.report.source_pictures import SourcePictures
from components.data.report.summary import DUPLICATES, REASONS, ROWS, marked, summarize
from components.data.row_index import RowIndex
from components.data.schema import SourceRow
from components.data.source_files import SourceFiles
from components.data.subject_image import CurateSettings
from components.errors import DataError
from tests.fixtures.prepared_dataset import write_prepared
from workflows.cli import app
from workflows.prepare import summary

HOSTILE = "<script>alert('x')</script> a red cat \"&\" <img src=x onerror=alert(1)>"


class Noise:
    """An album whose pictures compress as badly as can be; it notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def row(self, id: str) -> RowPictures | None:
        self.asked.append(id)
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8))
        mask = Image.new("L", picture.size)
        ImageDraw.Draw(mask).ellipse((100, 100, 700, 800), fill=255)
        return RowPictures(picture, mask, None, picture.resize((700, 700)), (70, 70, 350, 350))

    def picture(self, id: str) -> Image.Image | None:
        seen = self.row(id)
        return None if seen is None else seen.picture


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def reject(name: str, stage: str = "decode", reason: str = "damaged", kept: str | None = None) -> dict[str, Any]:
    return {"id": name, "source": name, "stage": stage, "reason": reason, "kept": kept}


def rows(count: int, **values: str) -> Sequence[dict[str, str]]:
    return [{"id": f"{i}.png", **values} for i in range(count)]


# -- what is shown


def test_page_states_the_numbers_of_the_manifest(tmp_path: Path) -> None:
    rejects = [reject(f"{i}.bad") for i in range(7)] + [reject("twin", "duplicate", "the same", kept="64x64-1.png")]
    write_prepared(tmp_path, {("train", "64x64"): 1100, ("train", "48x80"): 3, ("validation", "64x64"): 20}, rejects)
    page = Page(write_report(tmp_path, Noise(), "cats"))
    for said in ("1,131", "1,103", "20", "8", "64 × 64", "48 × 80", "damaged", "0123456789abcdef", "a base"):
        assert said in page.text
    assert page.count("mark") == ROWS // 2 + 3  # every sample's word; the small bucket has three rows
    assert "twin" in page.text and "64x64-1.png" in page.text


def test_notes_and_what_was_passed_over_are_counted_and_named(tmp_path: Path) -> None:
    texts = rows(3, caption="a robot at night", word="robot", word_from="caption")
    manifest = write_prepared(tmp_path, {("train", "64x64"): texts}, [])
    assert "notes" not in manifest.model_dump(mode="json"), "an earlier release reads it"
    noted = {"notes": {"word: unconfirmed": 3}, "passed_over": {"hidden files": {"count": 2, "names": [".a", ".b"]}}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json") | noted))
    page = Page(write_report(tmp_path, Noise(), "robots"))
    for said in ("word: unconfirmed", "hidden files: .a, .b", "word unconfirmed"):
        assert said in page.text
    assert summary(Prepared(tmp_path, load_manifest(tmp_path), False, 3)).row_count == 6
    told = CliRunner().invoke(app, ["inspect", str(tmp_path)], env={"COLUMNS": "200"}).output
    assert "note: word: unconfirmed" in told


def test_nothing_is_loaded_and_nothing_can_run(tmp_path: Path) -> None:
    texts = rows(4, caption=HOSTILE, word="cat", group=HOSTILE)
    hostile = [reject(HOSTILE, HOSTILE, HOSTILE), reject(HOSTILE + "2", "duplicate", "same", HOSTILE)]
    write_prepared(
        tmp_path, {("train", "64x64"): [row | {"id": HOSTILE + row["id"]} for row in texts]}, hostile,
        {"data": {"source": HOSTILE}},
    )  # fmt: skip
    page = Page(write_report(tmp_path, Noise(), HOSTILE))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all((a["src"] or "").startswith("data:image/webp;base64,") for tag, a in page.tags if tag == "img")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    assert not re.search(r"url\(|@import|https?://", (tmp_path / REPORT).read_text())
    assert page.text.count("<script>alert('x')</script>") >= 8


def test_size_does_not_follow_the_dataset(tmp_path: Path) -> None:
    sizes = []
    for count in (40, 2000):
        directory = tmp_path / str(count)
        directory.mkdir()
        buckets = [f"{64 + 8 * i}x64" for i in range(30)]
        rejects = [reject(f"{i}.bad", reason=f"reason {i % 50} " + "x" * 200) for i in range(count)]
        rejects += [reject(f"{i}.twin", "duplicate", "the same", kept="0.png") for i in range(count)]
        text = {"caption": "a cat " + "and a very long tale " * 500, "word": "cat"}
        write_prepared(directory, {("train", bucket): rows(count // 20, **text) for bucket in buckets}, rejects)
        sizes.append(write_report(directory, Noise(), "cats").stat().st_size)
    assert max(sizes) < 3_000_000
    assert sizes[1] < 1.2 * sizes[0]


def test_the_same_dataset_gives_the_same_page(tmp_path: Path) -> None:
    write_prepared(tmp_path, {("train", "64x64"): 200, ("train", "48x80"): 200}, [reject("bad")])
    first = write_report(tmp_path, Noise(), "cats").read_bytes()
    album = Noise()
    assert write_report(tmp_path, album, "cats").read_bytes() == first
    assert not list(tmp_path.glob(".*"))
    assert len([name for name in album.asked if name.startswith("48x80")]) == ROWS // 2


def test_pictures_that_are_gone_leave_room_for_the_text(tmp_path: Path) -> None:
    class Empty:
        def row(self, id: str) -> None: ...
        def picture(self, id: str) -> None: ...

    write_prepared(tmp_path, {("train", "64x64"): 3}, [reject("bad"), reject("twin", "duplicate", "same", "0.png")])
    page = Page(write_report(tmp_path, Empty(), "cats"))
    assert page.count("img") == 0 and page.count("mark") == 3 and page.text.count("no picture") == 3


# -- the sample


def test_sample_stays_when_other_buckets_are_added(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("b", {("train", "80x48"): 5})):
        (tmp_path / name).mkdir()
        write_prepared(tmp_path / name, {("train", "64x64"): 300, ("train", "48x80"): 300, **more})
    before, after = ({row.id for row in summarize(tmp_path / name).rows if row.bucket != "80x48"} for name in "ab")
    assert after < before and len(after) == 16


def test_reasons_and_pairs_are_few_and_the_most_frequent_come_first(tmp_path: Path) -> None:
    rejects = [reject(f"{i}-{j}", reason=f"reason {i}") for i in range(20) for j in range(25 - i)]
    rejects += [reject(f"twin {i}", "duplicate", "the same", kept="0.png") for i in range(40)]
    write_prepared(tmp_path, {("train", "64x64"): 1}, rejects)
    summary = summarize(tmp_path)
    assert len(summary.reasons) == REASONS and len(summary.duplicates) == DUPLICATES
    assert [reason.count for reason in summary.reasons[:3]] == [40, 25, 24]
    assert all(
        row.id.split("-")[0] == reason.reason.split()[1] for reason in summary.reasons[1:] for row in reason.rows
    )


@pytest.mark.parametrize(
    ("caption", "word", "pieces"),
    [
        ("a cat", "cat", [("a ", False), ("cat", True)]),
        ("Cats and cats", "cat", [("Cats", True), (" and ", False), ("cats", True)]),
        ("the teddy-bear's hat", "teddy bear", [("the ", False), ("teddy-bear", True), ("'s hat", False)]),
        ("a dog", "cat", [("a dog", False)]),
    ],
)
def test_word_is_marked_where_the_model_finds_it(caption: str, word: str, pieces: list[tuple[str, bool]]) -> None:
    assert marked(caption, word) == pieces


@pytest.mark.parametrize("broken", ["shard", "references", "rejects", "gone"])
def test_a_damaged_dataset_is_said_to_be_one(tmp_path: Path, broken: str) -> None:
    write_prepared(tmp_path, {("train", "64x64"): 3})
    if broken == "gone":
        (tmp_path / "rejects.parquet").unlink()
    else:
        folder = {"shard": "shards", "references": "references", "rejects": ""}[broken]
        file = next((tmp_path / folder).rglob("*.parquet" if folder else "rejects.parquet"))
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="is damaged"):
        summarize(tmp_path)


# -- pictures


def test_outline_runs_along_the_mask() -> None:
    mask = Image.new("L", (200, 100))
    mask.paste(255, (50, 20, 150, 80))
    numbers = [float(n) for n in re.findall(r"[\d.]+", outline(mask))]
    xs, ys = numbers[::2], numbers[1::2]
    assert (min(xs), max(xs)) == pytest.approx((25, 75), abs=1)
    assert (min(ys), max(ys)) == pytest.approx((20, 80), abs=1)
    assert extent(mask) == (0.25, 0.2, 0.75, 0.8)
    assert outline(Image.new("L", (200, 100))) == "" and extent(Image.new("L", (200, 100))) is None


def test_thumbnails_keep_their_shape_and_never_grow() -> None:
    assert thumbnail(Image.new("RGB", (1000, 500)), 320)[1:] == (320, 160)
    assert thumbnail(Image.new("RGB", (40, 50)), 320)[1:] == (40, 50)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (120, 80), "navy")
    ImageDraw.Draw(picture).ellipse((30, 10, 90, 70), fill="red")
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "moves.gif", save_all=True, append_images=[picture.rotate(90)])
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse((30, 10, 90, 70), fill=255)
    mask.save(tmp_path / "mask.png")
    return tmp_path


def album(root: Path, *names: str, max_pixels: int = 10**6) -> SourcePictures:
    settings = CurateSettings(SourceFiles.at(root), (Bucket(96, 64),), 64, 10**6, max_pixels, "original")
    return SourcePictures(RowIndex([a_row(name) for name in names]), settings)


def a_row(name: str) -> SourceRow:
    return {
        "subject": {"id": name, "image": name, "mask": "mask.png", "box": None, "head_box": (40, 10, 80, 40)},
        "caption": "a cat",
        "word": "cat",
        "group": "g",
        "references": None,
        "source": name,
        "licence": None,
    }


def test_rows_are_laid_out_as_they_were_prepared(source: Path) -> None:
    seen = album(source, "a.png").row("a.png")
    assert seen is not None and seen.head is not None and seen.face is not None
    assert seen.picture.size == seen.mask.size == seen.head.size == (96, 64) and seen.cutout.size == (64, 64)
    red = np.asarray(seen.picture)[..., 0] > 120
    assert ((np.asarray(seen.mask) > 127) == red).mean() > 0.97


def test_refused_pictures_are_shown_as_far_as_they_can_be(source: Path) -> None:
    shown = album(source, "a.png", "moves.gif", "broken.png", "missing.png")
    sizes = {n: (p := shown.picture(n)) and p.size for n in ("a.png", "moves.gif", "broken.png", "missing.png", "?")}
    assert sizes == {"a.png": (120, 80), "moves.gif": (120, 80), "broken.png": None, "missing.png": None, "?": None}
    assert shown.row("broken.png") is None and shown.row("?") is None
    assert album(source, "moves.gif", max_pixels=100).picture("moves.gif") is None


def test_hostile_bytes_show_nothing(source: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "WEBP")
    for cut in range(0, 60, 7):
        (source / "b.webp").write_bytes(buffer.getvalue()[:cut] + b"\xff" * 40)
        assert album(source, "b.webp").picture("b.webp") is None or cut > 30


# -- in the terminal


def test_inspect_prints_what_the_report_shows(tmp_path: Path) -> None:
    rejects = [reject("x.png"), reject("twin.png", "duplicate", "the same", kept="first.png")]
    texts = rows(3, caption="a [bold]cat[/bold] sleeps", word="cat", word_from="detected")
    write_prepared(tmp_path, {("train", "64x64"): texts, ("validation", "80x48"): 2}, rejects)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for said in ("64 × 64", "80 × 48", "damaged", "twin.png", "first.png", "detected", "0123456789abcdef"):
        assert said in result.output
    assert "a [bold]cat[/bold] sleeps" in result.output  # what a user wrote is no markup


def test_inspect_of_another_directory_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and "no prepared dataset" in result.stderr
