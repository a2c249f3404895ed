"""The schema of the service's database: upgrade, downgrade, and its revision (`realcustom database`)."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
import typer

from components.config import Config
from components.database import connect_to_migrate
from components.migrations.migrate import HEAD, SchemaState, current, downgrade, upgrade
from workflows.entry import launch
from workflows.options import ConfigFile, Overrides, Preset, Settings

app = typer.Typer(help="Schema of the service's database: upgrade, downgrade, show.", no_args_is_help=True)


@app.command("upgrade")
def upgrade_database(
    revision: Annotated[str, typer.Argument(metavar="[REVISION]", help="Revision to upgrade to.")] = HEAD,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Upgrade the database, as the service does when it starts."""
    launch(run_upgrade, Settings(preset, config_file, overrides), revision=revision)


@app.command("downgrade")
def downgrade_database(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="Revision that an earlier release names.")],
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Downgrade the database for an earlier release that cannot use it; stop the service before."""
    launch(run_downgrade, Settings(preset, config_file, overrides), revision=revision)


@app.command("current")
def show_current(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """Print the revision of the database and the newest one of this release."""
    launch(show, Settings(preset, config_file, overrides))


def run_upgrade(config: Config, revision: str) -> None:
    _print(upgrade(_engine(config), revision))


def run_downgrade(config: Config, revision: str) -> None:
    _print(downgrade(_engine(config), revision))


def show(config: Config) -> None:
    _print(current(_engine(config)))


def _engine(config: Config) -> sa.Engine:
    return connect_to_migrate(config.serving.store, config.serving.database, config.serving.database_limits)


def _print(state: SchemaState) -> None:
    line = f"database {state.revision or 'without a revision'}, this release {state.head}"
    if state.newer:
        line += "; this release can use it" if state.usable else "; this release cannot use it"
    print(line)
