"""The options of every command that reads the configuration."""

from __future__ import annotations

from typing import Annotated

import typer

Preset = Annotated[str, typer.Option(help="Configuration to start from; `realcustom presets` lists them.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one configuration key; may be given several times."),
]
