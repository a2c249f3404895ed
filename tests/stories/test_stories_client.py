"""Stories from Python and from the command line, over real HTTP."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest
from typer.testing import CliRunner, Result

from components.client import Client, ServiceError
from components.config import Config
from tests.fakes.service_process import running
from tests.stories.conftest import picture
from workflows.cli import app


@pytest.fixture
def url(config: Config) -> Iterator[str]:
    with running(config) as url:
        yield url


@pytest.fixture
def service(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def test_a_story_from_python(service: Client) -> None:
    rob = service.characters.create("Rob", picture(), "a red robot")
    story = service.stories.create("Sea", "@rob on the beach\n@nobody", style="ink", language="en")
    assert [panel.prompt for panel in story.panels] == ["@Rob on the beach", "@nobody"]
    drawing = service.stories.draw(story.id, n=2)
    assert [panel for panel, _ in drawing.jobs] == [story.panels[0].id] * 2
    assert "no character of this name" in drawing.skipped[story.panels[1].id]
    *_, drawn = service.stories.wait(story.id, look_every_s=0.05, timeout_s=30)
    first, second = drawn.panels
    assert len(first.takes) == 2 and not first.dirty and second.error is not None
    assert first.takes[0].settings["characters"][0]["id"] == rob.id
    assert service.stories.picture(first.takes[0]).startswith(b"\x89PNG")

    service.stories.change_panel(story.id, second.id, prompt="the end", caption="The end.")
    added = service.stories.add_panels(story.id, [{"prompt": "a title"}], "start")
    assert service.stories.change(story.id, title="At sea").title == "At sea"
    service.stories.order(story.id, [first.id, added[0].id, second.id])
    service.stories.delete_panel(story.id, added[0].id)
    assert [panel.id for panel in service.stories.get(story.id).panels] == [first.id, second.id]
    assert [each.title for each in service.stories.list()] == ["At sea"]
    copy = service.stories.import_file(service.stories.export(story.id, "story"))
    assert copy.notes == () and copy.panels[1].caption == "The end."
    service.stories.delete(story.id)
    with pytest.raises(ServiceError, match="no such story") as refused:
        service.stories.get(story.id)
    assert refused.value.code == "story_not_found"


def call(url: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["story", *arguments], env={"REALCUSTOM_URL": url})
    assert result.exit_code == code, result.output
    return result


def test_a_story_from_the_command_line(url: str, service: Client, tmp_path: Path) -> None:
    service.characters.create("Rob", picture(), "a red robot")
    script = tmp_path / "script.txt"
    script.write_text("1. @rob on the beach\n2. a quiet night\n")
    story = call(url, "new", str(script), "--style", "watercolour", "--title", "Rob at sea").stdout.strip()
    assert "drawing 2 of 2 panels" in (drawn := call(url, "draw", "rob at sea").stderr)
    assert "panel 1: drawn" in drawn and "panel 2: drawn" in drawn
    assert "drawing 0 of 2 panels" in call(url, "draw", story).stderr
    assert "Rob at sea" in call(url, "list").stdout
    for name in ("book.pdf", "book.cbz", "pictures.zip", "story.zip"):
        assert call(url, "export", story, "--to", str(tmp_path / name)).stdout == f"wrote {tmp_path / name}\n"
    assert len(pypdf.PdfReader(tmp_path / "book.pdf").pages) == 2
    assert "ComicInfo.xml" in zipfile.ZipFile(tmp_path / "book.cbz").namelist()
    assert zipfile.ZipFile(tmp_path / "pictures.zip").namelist() == ["story.txt", "001.png", "002.png"]
    assert "manifest.json" in zipfile.ZipFile(io.BytesIO((tmp_path / "story.zip").read_bytes())).namelist()
    copy = call(url, "import", str(tmp_path / "story.zip")).stdout.strip()
    assert [panel.prompt for panel in service.stories.get(copy).panels] == ["@Rob on the beach", "a quiet night"]
    call(url, "delete", story)
    assert [each.id for each in service.stories.list()] == [copy]


def test_what_goes_wrong_is_one_line(url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("@nobody waves\na failure that " + "is long " * 20)
    story = call(url, "new", str(script)).stdout.strip()
    assert "panel 1: prompt: the mention at character 1" in call(url, "draw", story, code=1).stderr
    for arguments in (
        ("export", story, "--to", "book.docx"),
        ("export", "Nothing", "--to", "book.pdf"),
        ("new", str(tmp_path / "missing.txt")),
    ):
        told = call(url, *arguments, code=2).stderr
        assert told.startswith("error: ") and told.count("\n") == 1
