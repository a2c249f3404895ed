"""Stories leave as books and as files that open elsewhere; files that come in are trusted with nothing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from components.config import Config, load_config
from components.errors import DataError
from components.stories.export.archive import StoryArchive
from components.stories.export.balloons import balloon_shape
from components.stories.export.pdf import cells
from components.stories.export.story_text import shorten, wrap_text
from components.stories.story import Balloon
from tests.fakes.service_process import QUICK, running
from tests.fixtures.error_envelope import error
from tests.stories.conftest import LORAS, character, create, draw, drawn

BALLOON = {"text": "Where is the sea?", "x": 0.7, "y": 0.2, "tail_x": 0.4, "tail_y": 0.6}


def export(client: httpx.Client, story: str, kind: str, **query: Any) -> httpx.Response:
    answer = client.get(f"/v1/stories/{story}/export", params={"format": kind} | query)
    assert answer.status_code == 200, answer.text
    return answer


def bring(client: httpx.Client, data: bytes, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/stories/import", files={"file": ("story.zip", data)}, headers=headers)


@pytest.fixture
def book(client: httpx.Client) -> dict[str, Any]:
    """A drawn story of five panels, one of them hidden."""
    character(client, "Rob")
    story = create(client, "@rob one\ntwo\nthree\n@rob four\nfive", title="Rob at sea: 罗布在海边")
    captions = ["Rob walks.", "小明在海滩上看见了大海。", "Привет, мир!", "", "Hidden."]
    for panel, caption in zip(story["panels"], captions, strict=True):
        change = {"caption": caption, "balloons": [BALLOON], "hidden": caption == "Hidden."}
        client.patch(f"/v1/stories/{story['id']}/panels/{panel['id']}", json=change)
    draw(client, story["id"], panels=[panel["id"] for panel in story["panels"]])
    return drawn(client, story["id"])


def test_a_long_picture_shows_every_panel_with_its_text(client: httpx.Client, book: dict[str, Any]) -> None:
    answer = export(client, book["id"], "png")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as opened:
        assert "trainedAlgorithmicMedia" in opened.text["XML:com.adobe.xmp"]
        sheet = opened.convert("RGB")
    assert sheet.width == 1080 and sheet.height > 4 * 960, "four panels that are shown, below each other"
    path = f"/v1/stories/{book['id']}"
    for panel in book["panels"]:
        client.patch(f"{path}/panels/{panel['id']}", json={"caption": "", "balloons": []})
    bare = export(client, book["id"], "png").content
    with Image.open(io.BytesIO(bare)) as opened:
        assert opened.height < sheet.height, "three captions are gone"
    client.patch(path, json={"pages": {"panels_per_page": 4, "title_page": False, "paper": "a4"}})
    with Image.open(io.BytesIO(export(client, book["id"], "png").content)) as untitled:
        pictures = [panel["takes"][0]["picture"] for panel in book["panels"][:4]]
        for place, picture in enumerate(pictures):
            with Image.open(io.BytesIO(client.get(picture).content)) as drawn_picture:
                mine = untitled.crop((60, 60 + place * (960 + 48), 1020, 60 + place * (960 + 48) + 960))
                small = mine.convert("RGB").resize(drawn_picture.size, Image.Resampling.BOX)
                assert ImageChops.difference(small, drawn_picture.convert("RGB")).getextrema()[0][1] <= 2


def test_a_balloon_stays_in_its_picture_and_its_tail_starts_there() -> None:
    corner = Balloon("a long text that is set in several lines of a balloon", 0.99, 0.01, 0.2, 0.9)
    shape = balloon_shape(corner, 400, 300, 14, lambda text: 7.0 * len(text))
    assert shape is not None and shape.tail is not None
    left, top, right, bottom = shape.box
    assert 0 < left < right < 400 and 0 < top < bottom < 300
    assert shape.tail[2] == (80, 270)
    assert all(left < x < right and top < y < bottom for x, y in shape.tail[:2])
    assert all(left < x < right and top < y < bottom for _, (x, y) in shape.lines)
    inside = balloon_shape(Balloon("a", 0.5, 0.5, 0.5, 0.5), 400, 300, 14, lambda text: 7.0 * len(text))
    assert inside is not None and inside.tail is None
    assert balloon_shape(Balloon(" ", 0.5, 0.5, 0.5, 0.5), 400, 300, 14, len) is None


def test_a_pdf_can_be_searched_in_every_script(client: httpx.Client, book: dict[str, Any]) -> None:
    answer = export(client, book["id"], "pdf", panels_per_page=3)
    assert answer.headers["content-disposition"] == 'attachment; filename="book.pdf"'
    pdf = pypdf.PdfReader(io.BytesIO(answer.content))
    texts = [" ".join(page.extract_text().split()) for page in pdf.pages]
    assert len(texts) == 3, "a title page, three panels and one"
    assert "Rob at sea: 罗布在海边" in texts[0]
    for said in ("Rob walks.", "小明在海滩上看见了大海。", "Привет, мир!", "Where is the sea?"):
        assert said in texts[1]
    assert not any("Hidden." in text for text in texts)
    assert [len(page.images) for page in pdf.pages] == [0, 3, 1]
    fonts = pdf.pages[1]["/Resources"]["/Font"].values()  # type: ignore[index]
    embedded = [font.get_object().get("/FontDescriptor", {}).get("/FontFile2") for font in fonts]
    assert any(embedded), "the font is embedded"
    assert pdf.metadata is not None and pdf.metadata.title == "Rob at sea: 罗布在海边"
    xmp = pdf.trailer["/Root"]["/Metadata"].get_data().decode()  # type: ignore[index]
    assert "trainedAlgorithmicMedia" in xmp and f'"seed": {book["panels"][0]["takes"][0]["seed"]}' in xmp
    square = pypdf.PdfReader(io.BytesIO(export(client, book["id"], "pdf", paper="square", title_page=False).content))
    assert len(square.pages) == 1 and square.pages[0].mediabox.width == square.pages[0].mediabox.height


def test_pictures_leave_as_they_are_with_their_marks(client: httpx.Client, book: dict[str, Any]) -> None:
    originals = [client.get(panel["takes"][0]["picture"]).content for panel in book["panels"][:4]]
    archive = zipfile.ZipFile(io.BytesIO(export(client, book["id"], "zip").content))
    assert archive.testzip() is None
    assert [archive.read(f"{number:03}.png") for number in range(1, 5)] == originals


def test_a_comic_shows_what_is_said(client: httpx.Client, book: dict[str, Any]) -> None:
    """Readers of comic archives show images alone; without texts they are the files as they are."""
    path = f"/v1/stories/{book['id']}"
    comic = zipfile.ZipFile(io.BytesIO(export(client, book["id"], "cbz").content))
    assert comic.testzip() is None
    info = ElementTree.fromstring(comic.read("ComicInfo.xml"))
    assert info.findtext("Title") == "Rob at sea: 罗布在海边" and info.findtext("PageCount") == "5"
    listed = list(info.iter("Page"))
    assert [page.get("Bookmark") for page in listed][:3] == [None, "Rob walks.", "小明在海滩上看见了大海。"]
    for number, page in enumerate(listed, start=1):
        with Image.open(io.BytesIO(comic.read(f"{number:03}.png"))) as opened:
            assert (str(opened.width), str(opened.height)) == (page.get("ImageWidth"), page.get("ImageHeight"))
            assert "trainedAlgorithmicMedia" in opened.text["XML:com.adobe.xmp"]
            if number == 2:
                captioned = opened.convert("L")
    below = captioned.crop((0, captioned.height - 110, captioned.width, captioned.height))
    assert below.getextrema() == (0, 255), "black letters of a caption"
    for panel in book["panels"]:
        client.patch(f"{path}/panels/{panel['id']}", json={"caption": "", "balloons": []})
    client.patch(path, json={"pages": {"panels_per_page": 4, "title_page": False, "paper": "a4"}})
    plain = zipfile.ZipFile(io.BytesIO(export(client, book["id"], "cbz").content))
    originals = [client.get(panel["takes"][0]["picture"]).content for panel in book["panels"][:4]]
    assert [plain.read(f"{number:03}.png") for number in range(1, 5)] == originals


def test_a_story_without_pictures_is_no_book(client: httpx.Client) -> None:
    story = create(client, "one")
    for kind in ("pdf", "cbz", "zip"):
        answer = client.get(f"/v1/stories/{story['id']}/export", params={"format": kind})
        assert answer.status_code == 409 and error(answer)["code"] == "nothing_to_export"
    assert client.get(f"/v1/stories/{story['id']}/export", params={"format": "doc"}).status_code == 400
    assert bring(client, export(client, story["id"], "story").content).status_code == 201


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[httpx.Client]:
    """Another installation."""
    config = load_config("tiny", [f"serving.store={tmp_path}/elsewhere", "sampling.steps=3", LORAS, *QUICK])
    with running(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def without_ids(story: dict[str, Any]) -> dict[str, Any]:
    """What is the same in another installation."""
    kept = {name: story[name] for name in ("title", "style", "language", "pages")}
    same = ("prompt", "caption", "size", "seed", "seed_locked", "hidden", "balloons", "with_characters", "dirty")
    same += ("sampler", "steps", "guidance_scale", "loras")
    taken = ("width", "height", "seed", "model", "model_version", "settings")
    kept["panels"] = [
        {name: panel[name] for name in same}
        | {"takes": [{name: take[name] for name in taken} for take in panel["takes"]]}
        | {"chosen": [take["id"] for take in panel["takes"]].index(panel["chosen"])}
        for panel in story["panels"]
    ]
    return kept


def test_a_story_opens_in_another_installation(
    client: httpx.Client, elsewhere: httpx.Client, book: dict[str, Any]
) -> None:
    first = book["panels"][0]["id"]
    client.patch(
        f"/v1/stories/{book['id']}/panels/{first}", json={"sampler": "heun", "steps": 4, "loras": [{"name": "ink"}]}
    )
    draw(client, book["id"], panels=[first])
    book = drawn(client, book["id"])
    data = export(client, book["id"], "story").content
    answer = bring(elsewhere, data, "once")
    assert answer.status_code == 201, answer.text
    there = answer.json()
    assert there["notes"] == [] and answer.headers["location"] == f"/v1/stories/{there['id']}"
    assert without_ids(there) == without_ids(book)
    for here, brought in zip(book["panels"], there["panels"], strict=True):
        for one, other in zip(here["takes"], brought["takes"], strict=True):
            assert client.get(one["picture"]).content == elsewhere.get(other["picture"]).content
            for mask, same in zip(one["masks"], other["masks"], strict=True):
                assert client.get(mask).content == elsewhere.get(same).content
    rob = elsewhere.get("/v1/characters").json()["data"][0]
    assert rob["name"] == "Rob" and rob["target_word"] == "robot" and len(rob["pictures"]) == 1
    assert there["panels"][0]["mentions"][0]["character"] == rob["id"]
    draw(elsewhere, there["id"], panels=[there["panels"][0]["id"]])
    redrawn = drawn(elsewhere, there["id"])["panels"][0]
    assert len(redrawn["takes"]) == 3, redrawn["error"]
    again = bring(elsewhere, data, "once")
    assert again.json()["id"] == there["id"] and again.headers["idempotent-replayed"] == "true"
    assert len(elsewhere.get("/v1/stories").json()["data"]) == 1


def test_a_story_that_comes_back_finds_its_characters(client: httpx.Client, book: dict[str, Any]) -> None:
    there = bring(client, export(client, book["id"], "story").content).json()
    assert there["id"] != book["id"] and there["notes"] == []
    assert len(client.get("/v1/characters").json()["data"]) == 1
    assert there["panels"][0]["mentions"] == book["panels"][0]["mentions"]


def changed(data: bytes, change: Callable[[dict[str, Any]], None], drop: tuple[str, ...] = (), **more: bytes) -> bytes:
    """The archive with another manifest, without some files and with others."""
    old, buffer = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    manifest = json.loads(old.read("manifest.json"))
    change(manifest)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("manifest.json", json.dumps(manifest))
        for name in old.namelist():
            if name != "manifest.json" and name not in drop and name not in more:
                new.writestr(name, old.read(name))
        for name, content in more.items():
            new.writestr(name, content)
    return buffer.getvalue()


def test_what_cannot_be_brought_is_said(client: httpx.Client, elsewhere: httpx.Client, book: dict[str, Any]) -> None:
    character(elsewhere, "rob", "cat", "blue")
    data = export(client, book["id"], "story").content

    def older(manifest: dict[str, Any]) -> None:
        for panel in manifest["panels"]:
            for take in panel["takes"]:
                take["model_version"] = "3"

    lost = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("manifest.json"))["panels"][1]["takes"][0]["file"]
    story = bring(elsewhere, changed(data, older, (lost,))).json()
    notes = "\n".join(story["notes"])
    assert "Rob is called Rob 2 here" in notes and "version 3, which does not draw here" in notes
    assert "a take of panel 2: its file is missing" in notes
    assert story["panels"][1]["takes"] == [] and story["panels"][1]["chosen"] is None
    assert story["panels"][0]["prompt"] == '@"Rob 2" one'


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: Any) -> None:
        for step in path[:-1]:
            manifest = manifest[step]
        manifest[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set("format", value="other"), "no story of this software"),
        (_set("version", value=2), "newer release"),
        (_set("title", value=""), "title"),
        (_set("panels", 0, "takes", 0, "file", value="../../etc/passwd"), "file"),
        (_set("panels", 0, "takes", 0, "file", value="/etc/passwd"), "file"),
        (_set("panels", 0, "balloons", 0, "x", value=7), "x"),
        (_set("panels", 0, "takes", 0, "settings", "guidance_scale", value=1e999), "guidance_scale"),
        (_set("panels", 0, "seed", value=-1), "seed"),
        (_set("panels", value={"a": 1}), "panels"),
        (_set("panels", value=[{"prompt": []}] * 501), "500 panels"),
    ],
)
def test_a_wrong_manifest_is_refused_and_leaves_nothing(
    client: httpx.Client, elsewhere: httpx.Client, config: Config, book: dict[str, Any], change: Any, told: str
) -> None:
    data = changed(export(client, book["id"], "story").content, change)
    answer = bring(elsewhere, data)
    assert answer.status_code in (400, 409) and told in error(answer)["message"], answer.text
    assert elsewhere.get("/v1/stories").json()["data"] == elsewhere.get("/v1/characters").json()["data"] == []


def bomb(size: int) -> bytes:
    """A ZIP whose manifest unpacks to so many bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * size)
    return buffer.getvalue()


def test_a_file_that_unpacks_to_too_much_is_refused_while_it_unpacks() -> None:
    with pytest.raises(DataError, match="unpacks to more"):
        StoryArchive(bomb(30_000_000), 1_000_000_000)
    with pytest.raises(DataError, match="unpacks to more"):
        StoryArchive(bomb(2_000), 1_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"format": "realcustom-story", "version": 1, "title": "T"}))
        archive.writestr("a.png", b"0" * 600)
    opened = StoryArchive(buffer.getvalue(), 1_500)
    assert opened.file("a.png") and opened.file("a.png")
    with pytest.raises(DataError, match="unpacks to more"):  # a file counts as often as it is read
        opened.file("a.png")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_raises_nothing_but_its_error(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"format": "realcustom-story", "version": 1, "title": "T"}))
        archive.writestr("a.png", b"0" * 100)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DataError):
        StoryArchive(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), 10_000).file("a.png")


def test_pictures_of_a_file_are_looked_at_before_they_are_kept(
    client: httpx.Client, elsewhere: httpx.Client, book: dict[str, Any]
) -> None:
    data = export(client, book["id"], "story").content
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("manifest.json"))
    file = manifest["panels"][0]["takes"][0]["file"]
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, "PNG")
    html = b"<script>alert(1)</script>"
    for content in (html, huge.getvalue()):
        story = bring(elsewhere, changed(data, lambda _: None, (), **{file: content})).json()
        assert story["panels"][0]["takes"] == [] and any("a take of panel 1" in note for note in story["notes"])


def test_only_a_file_is_imported(client: httpx.Client) -> None:
    for answer in (
        bring(client, b"no zip"),
        client.post("/v1/stories/import", json={}),
        client.post("/v1/stories/import", data={"file": "text"}),
    ):
        assert answer.status_code == 400


# Setting text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.integers(1, 30))
def test_lines_hold_all_of_a_text_and_fit(text: str, width: int) -> None:
    lines = wrap_text(text, width, len)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_lines_break_where_scripts_do() -> None:
    assert wrap_text("a quiet night", 8, len) == ["a quiet", "night"]
    assert wrap_text("今天的海非常宽，很好。", 6, len) == ["今天的海非常", "宽，很好。"]
    assert wrap_text("海非常宽，好", 4, len) == ["海非常", "宽，好"], "no line begins with a comma"
    assert shorten(["a", "b", "c"], 2) == ["a", "b …"]


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("size", [(595.0, 842.0), (612.0, 612.0)])
def test_cells_lie_on_their_page_side_by_side(count: int, size: tuple[float, float]) -> None:
    found = cells(count, size)
    assert len(found) == count
    for index, (left, bottom, width, height) in enumerate(found):
        assert left >= 36 and bottom >= 36 and left + width <= size[0] - 35.9 and bottom + height <= size[1] - 35.9
        for other in found[index + 1 :]:
            apart = other[0] >= left + width or other[1] + other[3] <= bottom
            assert apart, "in reading order, and none over another"
