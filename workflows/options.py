"""The options of every command that reads the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from components.config import DEFAULT_PRESET, Config, load_config, named_preset

Preset = Annotated[
    str | None,
    typer.Option(
        help=f"Preset to start from; `realcustom presets` lists them. Default: the one that --config names, or "
        f"{DEFAULT_PRESET}.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file with settings of your own. They replace those of the preset; --set replaces them.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace the value of one configuration key. Repeatable."),
]


@dataclass(frozen=True)
class Settings:
    """The configuration options of the command line."""

    preset: str | None = None
    file: Path | None = None
    overrides: list[str] | None = None

    def load(self) -> Config:
        """The resolved configuration.

        Raises:
            ConfigError: a name or a value is wrong.
        """
        return load_config(self.preset, self.overrides or [], self.file)

    @property
    def names_preset(self) -> bool:
        """Whether a preset is named, on the command line or in the file."""
        return named_preset(self.preset, self.file) is not None
