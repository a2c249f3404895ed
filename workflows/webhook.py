"""Webhooks of owners: where they may go, and the secrets that sign them (`realcustom webhook`)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from components.access.store import check_owner
from components.config import Config
from components.database import open_service_database
from components.jobs.webhook_settings import WebhookSettingsStore
from workflows.entry import launch
from workflows.options import ConfigFile, Overrides, Preset, Settings

app = typer.Typer(
    help="Webhooks of owners, in the service's database: allow origins, replace secrets.", no_args_is_help=True
)
_Owner = Annotated[str, typer.Option(help="Owner of the jobs.")]
_Origins = Annotated[list[str], typer.Argument(metavar="ORIGIN...", help="https://host or https://host:port.")]


@app.command("allow")
def allow_origins(
    origins: _Origins,
    owner: _Owner,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Allow webhooks to more origins. The first call prints the owner's secret, which cannot be shown again."""
    launch(allow, Settings(preset, config_file, overrides), owner=owner, origins=origins)


@app.command("disallow")
def disallow_origins(
    origins: _Origins,
    owner: _Owner,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Allow origins no longer. Webhooks that wait for them fail."""
    launch(disallow, Settings(preset, config_file, overrides), owner=owner, origins=origins)


@app.command("rotate")
def rotate_secret(
    owner: _Owner, preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None
) -> None:
    """Print a new secret. The present one signs beside it until `realcustom webhook retire`."""
    launch(rotate, Settings(preset, config_file, overrides), owner=owner)


@app.command("retire")
def retire_secret(
    owner: _Owner, preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None
) -> None:
    """Sign with the newest secret only."""
    launch(retire, Settings(preset, config_file, overrides), owner=owner)


@app.command("list")
def list_settings(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """List owners with their origins, without their secrets."""
    launch(show, Settings(preset, config_file, overrides))


def allow(config: Config, owner: str, origins: list[str]) -> None:
    check_owner(owner)
    secret = _store(config).allow(owner, origins)
    if secret is not None:
        print(secret)
        print("store the printed secret: it cannot be shown again", file=sys.stderr)


def disallow(config: Config, owner: str, origins: list[str]) -> None:
    _store(config).disallow(owner, origins)


def rotate(config: Config, owner: str) -> None:
    print(_store(config).rotate(owner))
    print("both secrets sign; once receivers know the printed one, retire the other", file=sys.stderr)


def retire(config: Config, owner: str) -> None:
    _store(config).retire(owner)


def show(config: Config) -> None:
    table = Table("owner", Column("origins", overflow="fold"), "secrets")
    for settings in _store(config).all():
        table.add_row(Text(settings.owner), Text(" ".join(settings.origins)), str(len(settings.secrets)))
    Console().print(table)


def _store(config: Config) -> WebhookSettingsStore:
    return WebhookSettingsStore(open_service_database(config.serving))
