"""API keys of the service: create, list, change and revoke them in the service's database (`realcustom key`)."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from components.access.audit import AuditEntry, AuditLog
from components.access.key import ApiKey, KeyLimits, Scope
from components.access.limits import DAY_S, UsageLedger
from components.access.store import KeyStore
from components.config import Config
from components.database import open_service_database
from components.errors import ConfigError
from workflows.entry import launch
from workflows.options import ConfigFile, Overrides, Preset, Settings

app = typer.Typer(help="API keys of the service, in its database: create, list, change, revoke.", no_args_is_help=True)
#: Short names of pairs of scopes.
_BOTH = {
    "characters": (Scope.CHARACTERS_READ, Scope.CHARACTERS_WRITE),
    "jobs": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "stories": (Scope.STORIES_READ, Scope.STORIES_WRITE),
}


@app.command("create")
def create_key(
    owner: Annotated[str, typer.Option(help="Owner of the characters and jobs that the key gives access to.")],
    name: Annotated[str, typer.Option(help="Name of the key, for example the program that uses it.")],
    scopes: Annotated[
        str, typer.Option(help=f"Scopes, separated by commas: {', '.join([*_BOTH, *Scope])}.")
    ] = "characters,images,jobs,stories",
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests per minute and gateway (default: any number).")
    ] = None,
    pixel_steps_per_day: Annotated[
        int | None,
        typer.Option(min=1, help="Width x height x steps of a day's images (default: any number)."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until the key expires (default: never).")] = None,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Create a key and print it. It cannot be shown again."""
    limits = KeyLimits(requests_per_minute, pixel_steps_per_day)
    arguments = {"owner": owner, "name": name, "scopes": scopes, "limits": limits, "days": days}
    launch(create, Settings(preset, config_file, overrides), **arguments)


@app.command("list")
def list_keys(preset: Preset = None, config_file: ConfigFile = None, overrides: Overrides = None) -> None:
    """List the keys, without their secrets, and the usage of today."""
    launch(show, Settings(preset, config_file, overrides))


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id of the key: the part between `rc-` and the next `-`.")],
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Revoke a key: gateways reject it after at most `serving.access.refresh_s` seconds."""
    launch(revoke, Settings(preset, config_file, overrides), identifier=key)


@app.command("change")
def change_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id of the key: the part between `rc-` and the next `-`.")],
    scopes: Annotated[str | None, typer.Option(help="New scopes, separated by commas.")] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=0, help="New limit of requests per minute; 0 removes it.")
    ] = None,
    pixel_steps_per_day: Annotated[
        int | None, typer.Option(min=0, help="New limit of width x height x steps of a day; 0 removes it.")
    ] = None,
    preset: Preset = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Change scopes and limits of a key; gateways follow after at most `serving.access.refresh_s` seconds."""
    limits = {"requests_per_minute": requests_per_minute, "pixel_steps_per_day": pixel_steps_per_day}
    changed: dict[str, object] = {name: limit or None for name, limit in limits.items() if limit is not None}
    arguments = {"identifier": key, "scopes": scopes, "changed": changed}
    launch(change, Settings(preset, config_file, overrides), **arguments)


def create(config: Config, owner: str, name: str, scopes: str, limits: KeyLimits, days: int | None) -> None:
    lifetime_s = None if days is None else days * float(DAY_S)
    engine = open_service_database(config.serving)
    key, text = KeyStore(engine).create(owner, name, read_scopes(scopes), limits, lifetime_s)
    _record(engine, "create", key.id)
    print(text)
    print(f"created key {key.id}: store the printed key, it cannot be shown again", file=sys.stderr)


def show(config: Config) -> None:
    engine = open_service_database(config.serving)
    spent = UsageLedger(engine).spent()
    now = time.time()
    columns = ("owner", "name", "scopes", "limits", "today", "state")
    table = Table(Column("key", no_wrap=True), *(Column(name, overflow="fold") for name in columns))
    for key in KeyStore(engine).all():
        row = (key.id, key.owner, key.name, _scopes(key), _limits(key.limits), f"{spent.get(key.id, 0):,}")
        table.add_row(*map(Text, row), _state(key, now))
    Console().print(table)


def revoke(config: Config, identifier: str) -> None:
    engine = open_service_database(config.serving)
    KeyStore(engine).revoke(identifier)
    _record(engine, "revoke", identifier)
    print(f"revoked key {identifier}", file=sys.stderr)


def change(config: Config, identifier: str, scopes: str | None, changed: dict[str, object]) -> None:
    engine = open_service_database(config.serving)
    named = {} if scopes is None else {"scopes": read_scopes(scopes)}
    if not named and not changed:
        raise ConfigError("give --scopes, --requests-per-minute or --pixel-steps-per-day")
    key = KeyStore(engine).change(identifier, named | changed)
    _record(engine, "change", identifier)
    print(f"changed key {key.id}: {_scopes(key)}; {_limits(key.limits) or 'no limits'}", file=sys.stderr)


def read_scopes(text: str) -> list[Scope]:
    """Parse ``characters,images,jobs:read``; ``characters`` and ``jobs`` mean both reading and writing.

    Raises:
        ConfigError: a scope is unknown.
    """
    found: list[Scope] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word in _BOTH:
            found += _BOTH[word]
        elif word in set(Scope):
            found.append(Scope(word))
        else:
            raise ConfigError(f"scopes: {word!r} is unknown; choose from {', '.join([*_BOTH, *Scope])}")
    return found


def _record(engine: sa.Engine, command: str, key: str) -> None:
    AuditLog(engine).add([AuditEntry("", "", f"realcustom key {command}", key)])


def _state(key: ApiKey, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {_date(key.revoked)}"
    if key.expires is None:
        return "valid"
    return f"{'valid until' if key.is_valid(now) else 'expired'} {_date(key.expires)}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _scopes(key: ApiKey) -> str:
    short = [name for name, both in _BOTH.items() if key.scopes.issuperset(both)]
    rest = key.scopes.difference(*(_BOTH[name] for name in short))
    return " ".join(sorted([*short, *rest]))


def _limits(limits: KeyLimits) -> str:
    a_minute, a_day = limits.requests_per_minute, limits.pixel_steps_per_day
    said = [f"{a_minute:,} requests/min"] if a_minute is not None else []
    return ", ".join([*said, *([f"{a_day:,} pixel-steps/day"] if a_day is not None else [])])
