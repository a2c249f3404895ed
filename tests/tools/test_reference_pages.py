"""The generated pages of `docs/reference` are up to date and complete."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field

from components.config import Config
from components.config.section import Section
from tools import cli_page, config_page
from tools.write_pages import pages

PAGES = pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_up_to_date(path) -> None:  # type: ignore[no-untyped-def]
    assert path.read_text() == PAGES[path], "run `python -m tools.write_pages`"


def test_every_key_is_on_the_page_and_explained() -> None:
    shown = config_page.page()
    for key, field in config_page.keys(Config):
        row = next(line for line in shown.splitlines() if line.startswith(f"| `{key}` |"))
        assert not row.endswith("|  |"), f"{key} has no explanation: write a docstring below the field"
        assert field.description and len(row.replace("\\|", "").split("|")) == 6


class Leaf(Section):
    """A leaf."""

    wide: Annotated[int, Field(ge=2)] | None = None
    """Either ``a | b``."""


class Tree(Section):
    names: tuple[str, ...] = ("one", "two")
    """Some names."""
    kind: Literal["a", "b"] = "a"
    """Which kind."""
    share: float = Field(0.5, gt=0, le=1)
    """A share."""
    leaf: Leaf = Leaf()
    """A section."""


def test_types_limits_and_defaults_are_shown() -> None:
    loaded = {"big": {"names": [], "kind": "a", "share": 1.0, "leaf": {"wide": 3}}}
    shown = list(config_page.section_rows(Tree, "", loaded))
    assert "| `names` | list of text | `[one, two]`; big: `[]` | Some names. |" in shown
    assert "| `kind` | `a`, `b` | `a` | Which kind. |" in shown
    assert "| `share` | number; > 0, ≤ 1 | `0.5`; big: `1.0` | A share. |" in shown
    assert "| `leaf.wide` | integer or `null`; ≥ 2 | `null`; big: `3` | Either `a \\| b`. |" in shown
    assert "## leaf\n" in shown and "A leaf.\n" in shown


def test_commands_are_shown_with_their_options() -> None:
    application, group = typer.Typer(), typer.Typer()

    @application.command()
    def draw(
        source: Annotated[str, typer.Argument(metavar="PATH", help="What is read.")],
        count: Annotated[int, typer.Option(help="How many.", envvar="COUNT")] = 3,
        keep: Annotated[bool, typer.Option("--keep", help="Keep it.")] = False,
    ) -> None:
        """Draw something."""

    @group.command("list")
    def show() -> None:
        """List things."""

    application.add_typer(group, name="thing")
    shown = cli_page.page(application)
    assert "## realcustom draw\n\nDraw something.\n\n    realcustom draw [OPTIONS] PATH\n" in shown
    assert "| `PATH` | required | What is read. |" in shown
    assert "| `--count COUNT` | `$COUNT`, else `3` | How many. |" in shown
    assert "| `--keep` |  | Keep it. |" in shown
    assert "## realcustom thing list\n\nList things.\n\n    realcustom thing list\n" in shown
