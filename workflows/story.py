"""Stories of a running service: `realcustom story`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from components.client import Client, Story
from components.client.stories import export_format
from components.errors import DataError, NotFoundError
from components.files import replacing_file
from workflows.entry import one_line_errors
from workflows.service import LOCAL, ServiceUrl, connect

app = typer.Typer(help="Stories of a running service.", no_args_is_help=True)
Which = Annotated[str, typer.Argument(metavar="STORY", help="Its id or its title.")]


@app.command("new")
def new(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A text file, one panel per line; - reads stdin.")],
    title: Annotated[str | None, typer.Option(help="By default the file's name.")] = None,
    style: Annotated[str, typer.Option(help="Appended to the prompt of every panel.")] = "",
    url: ServiceUrl = LOCAL,
) -> None:
    """Create a story from a script whose lines may mention characters as @name, and print its id."""
    with one_line_errors(), connect(url) as client:
        text = _read(script)
        created = client.stories.create(title or (script.stem if str(script) != "-" else "Story"), text, style)
    print(created.id)
    print(f"{len(created.panels)} panels: `realcustom story draw {created.id}` draws them", file=sys.stderr)


@app.command("list")
def list_all(url: ServiceUrl = LOCAL) -> None:
    """Show all stories, newest first."""
    table = Table(Column("id", no_wrap=True), "title", "panels", "style")
    with one_line_errors(), connect(url) as client:
        for each in client.stories.list():
            table.add_row(*map(Text, (each.id, each.title, str(each.panel_count), each.style)))
    Console().print(table)


@app.command("draw")
def draw(
    which: Which,
    n: Annotated[int, typer.Option("-n", min=1, max=4, help="Variations of each panel.")] = 1,
    everything: Annotated[bool, typer.Option("--all", help="Draw all panels, not only what has changed.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until all is drawn.")] = True,
    url: ServiceUrl = LOCAL,
) -> None:
    """Have the panels drawn that have changed, and tell which could not be; then the exit code is 1."""
    with one_line_errors(), connect(url) as client:
        story = client.stories.get(find(client, which).id)
        numbers = {panel.id: number for number, panel in enumerate(story.panels, start=1)}
        shown = [panel.id for panel in story.panels if not panel.hidden] if everything else None
        drawing = client.stories.draw(story.id, shown, n)
        for panel, reason in drawing.skipped.items():
            print(f"panel {numbers[panel]}: {reason}", file=sys.stderr)
        sent = {panel for panel, _ in drawing.jobs}
        print(f"drawing {len(sent)} of {len(story.panels)} panels", file=sys.stderr)
        failed = _wait(client, story.id, sent, numbers) if wait and sent else 0
    if failed or drawing.skipped:
        raise SystemExit(1)


@app.command("export")
def export(
    which: Which,
    to: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="book.pdf, book.cbz, pictures.zip, a tall story.png, or story.zip to import elsewhere.",
        ),
    ],
    url: ServiceUrl = LOCAL,
) -> None:
    """Export a story to a file; its name determines the format."""
    with one_line_errors(), connect(url) as client:
        kind = export_format(to)
        if kind is None:
            raise DataError(
                "--to: name it .pdf, .cbz, .png, pictures.zip (its PNG files) or story.zip (to import elsewhere)"
            )
        data = client.stories.export(find(client, which).id, kind)
        with replacing_file(to) as partial:
            partial.write_bytes(data)
    print(f"wrote {to}")


@app.command("import")
def import_story(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `export --to story.zip`.")],
    url: ServiceUrl = LOCAL,
) -> None:
    """Import a story of another installation, print its id, and what could not be imported."""
    with one_line_errors(), connect(url) as client:
        story = client.stories.import_file(file)
    print(story.id)
    for note in story.notes:
        print(f"note: {note}", file=sys.stderr)


@app.command("delete")
def delete(which: Which, url: ServiceUrl = LOCAL) -> None:
    """Delete a story with all of its pictures."""
    with one_line_errors(), connect(url) as client:
        client.stories.delete(find(client, which).id)


def find(client: Client, which: str) -> Story:
    """The story of this id, or the only one of this title.

    Raises:
        NotFoundError: there is none, or several have the title.
    """
    found = [each for each in client.stories.list() if which == each.id or which.casefold() == each.title.casefold()]
    if len(found) != 1:
        reason = "several stories have this title: give the id of one" if found else "there is no such story"
        raise NotFoundError(f"{reason}; `realcustom story list` shows them")
    return found[0]


def _read(script: Path) -> str:
    try:
        return sys.stdin.read() if str(script) == "-" else script.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{script} cannot be read: give the path of a text file in UTF-8") from None


def _wait(client: Client, story: str, sent: set[str], numbers: dict[str, int]) -> int:
    """Print the result of each panel when its jobs end; returns the number of failed panels."""
    printed: set[str] = set()
    failed = 0
    for state in client.stories.wait(story):
        for panel in state.panels:
            if panel.id in sent - printed and panel.job is None:
                printed.add(panel.id)
                failed += panel.error is not None
                result = "drawn" if panel.error is None else panel.error["message"]
                print(f"panel {numbers.get(panel.id, '?')}: {result}", file=sys.stderr)
    return failed
