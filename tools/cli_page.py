"""Writes `docs/reference/cli.md` from the commands: ``python -m tools.cli_page > docs/reference/cli.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from workflows.cli import app

#: The page's introduction, which is written by hand.
_HEAD = Path(__file__).parent / "page_heads" / "cli.md"


def main() -> None:
    """Print the page."""
    print(page(app), end="")


def page(application: typer.Typer) -> str:
    """Every command with its arguments and options, in Markdown."""
    root = typer.main.get_command(application)
    return "\n".join([_HEAD.read_text(), *_commands(root, "realcustom")])


def _commands(group: Any, path: str) -> Iterator[str]:
    """The commands of a group, and of the groups in it, in the order of the code."""
    for name, command in group.commands.items():
        called = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, called)
            continue
        yield f"## {called}\n"
        yield f"{_prose(command.help)}\n"
        shown = [each for each in command.params if each.name != "help"]
        arguments = [each for each in shown if each.param_type_name == "argument"]
        usage = [*(["[OPTIONS]"] if len(arguments) < len(shown) else []), *map(_placeholder, arguments)]
        yield f"    {' '.join([called, *usage])}\n"
        if shown:
            yield "| Argument or option | Default | Meaning |\n|---|---|---|"
            yield from map(_row, shown)
            yield ""


def _row(parameter: Any) -> str:
    cells = [f"`{_spelled(parameter)}`", _default(parameter), _prose(parameter.help)]
    return "| " + " | ".join(cells) + " |"


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _placeholder(parameter)
    name = max(parameter.opts, key=len)
    return name if parameter.is_flag else f"{name} {parameter.metavar or str(parameter.name).upper()}"


def _placeholder(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False):
        return ""
    value = parameter.default
    environment = f"`${parameter.envvar}`" if parameter.envvar else ""
    said = "" if value is None or callable(value) or value in ("", ()) else f"`{value}`"
    return ", else ".join(each for each in (environment, said) if each)


def _prose(text: str | None) -> str:
    """Help as one line of Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join((text or "").split())).replace("|", "\\|")


if __name__ == "__main__":
    main()
