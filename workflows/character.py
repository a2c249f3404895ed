"""Characters of a running service: `realcustom character`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from workflows.entry import one_line_errors
from workflows.service import LOCAL, ServiceUrl, connect, find
from workflows.subject_region import BOX_HELP, MASK_HELP, mask_paths, read_box, read_boxes

app = typer.Typer(help="Characters of a running service.", no_args_is_help=True)
Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="One to four images of the character (PNG, JPEG or WebP).")
]
Boxes = Annotated[
    list[str] | None, typer.Option("--box", metavar="BOX", help=f"{BOX_HELP} Repeatable: one for each image, in order.")
]
Masks = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="PATH", help=f"{MASK_HELP} Repeatable: one for each image, in order."),
]
PictureId = Annotated[str, typer.Argument(metavar="ID", help="Id of the image; `show` lists them.")]
Who = Annotated[str, typer.Argument(metavar="CHARACTER", help="Id or name of the character.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Name of the character; prompts can mention it as @name.")],
    pictures: Images,
    description: Annotated[str, typer.Option(help="Description, for example: a red robot with a hat.")] = "",
    word: Annotated[
        str | None, typer.Option(help="Word that names it in prompts. Default: the noun of the description.")
    ] = None,
    box: Boxes = None,
    mask: Masks = None,
    url: ServiceUrl = LOCAL,
) -> None:
    """Create a character from images; print its id, and advice on the images."""
    with one_line_errors(), connect(url) as client:
        created = client.characters.create(name, pictures, description, word, read_boxes(box), mask_paths(mask))
    print(created.id)
    print(f"prompts can mention it as @{name}, or by the word {created.target_word!r}", file=sys.stderr)
    for sentence in created.advice:
        print(sentence, file=sys.stderr)


@app.command("add")
def add(who: Who, pictures: Images, box: Boxes = None, mask: Masks = None, url: ServiceUrl = LOCAL) -> None:
    """Add images to a character, which has at most four; print advice on them."""
    with one_line_errors(), connect(url) as client:
        identifier = find(client, who).id
        changed = client.characters.add_pictures(identifier, pictures, read_boxes(box), mask_paths(mask))
    for sentence in changed.advice:
        print(sentence, file=sys.stderr)


@app.command("list")
def list_all(url: ServiceUrl = LOCAL) -> None:
    """List the characters, newest first."""
    table = Table(Column("id", no_wrap=True), "name", "word", "description")
    with one_line_errors(), connect(url) as client:
        for each in client.characters.list():
            table.add_row(*map(Text, (each.id, each.name, each.target_word, each.description)))
    Console().print(table)


@app.command("show")
def show(who: Who, url: ServiceUrl = LOCAL) -> None:
    """Show one character, and advice on its images."""
    with one_line_errors(), connect(url) as client:
        found = find(client, who)
    for name in ("id", "name", "target_word", "description"):
        print(f"{name}: {getattr(found, name)}")
    for picture in found.pictures:
        print(f"image: {picture.id} ({picture.width} x {picture.height})")
    for sentence in found.advice:
        print(f"advice: {sentence}")


@app.command("change")
def change(
    who: Who,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    description: Annotated[str | None, typer.Option(help="New description.")] = None,
    word: Annotated[str | None, typer.Option(help="New word that names it in prompts.")] = None,
    url: ServiceUrl = LOCAL,
) -> None:
    """Change a character's name, description or word."""
    if name is description is word is None:
        raise typer.BadParameter("give --name, --description or --word")
    with one_line_errors(), connect(url) as client:
        changed = client.characters.change(find(client, who).id, name, description, word)
    print(f"{changed.name}: {changed.description} ({changed.target_word})")


@app.command("cut-out")
def cut_out(
    who: Who,
    picture: PictureId,
    box: Annotated[str | None, typer.Option("--box", metavar="BOX", help=BOX_HELP)] = None,
    mask: Annotated[Path | None, typer.Option("--mask", metavar="PATH", help=MASK_HELP)] = None,
    url: ServiceUrl = LOCAL,
) -> None:
    """Cut an image out again, where a box or a mask says that its subject is; print the image's new id."""
    with one_line_errors(), connect(url) as client:
        found = find(client, who)
        before = {each.id for each in found.pictures}
        changed = client.characters.cut_out_again(found.id, picture, None if box is None else read_box(box), mask)
    print(*(each.id for each in changed.pictures if each.id not in before))


@app.command("remove-picture")
def remove_picture(who: Who, picture: PictureId, url: ServiceUrl = LOCAL) -> None:
    """Remove one of several images of a character."""
    with one_line_errors(), connect(url) as client:
        client.characters.remove_picture(find(client, who).id, picture)


@app.command("rename")
def rename(who: Who, name: Annotated[str, typer.Argument(help="New name.")], url: ServiceUrl = LOCAL) -> None:
    """Rename a character."""
    with one_line_errors(), connect(url) as client:
        client.characters.rename(find(client, who).id, name)


@app.command("delete")
def delete(who: Who, url: ServiceUrl = LOCAL) -> None:
    """Delete a character with its images and their vision tokens."""
    with one_line_errors(), connect(url) as client:
        client.characters.delete(find(client, who).id)
