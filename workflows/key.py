"""Make, list and revoke the service's API keys, in the service's own database: `realcustom key`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from components.access.key import ApiKey, KeyLimits, Scope
from components.access.limits import DAY_S, UsageLedger
from components.access.store import TABLES, KeyStore
from components.config import Config
from components.database import open_database
from components.errors import ConfigError
from workflows.entry import launch
from workflows.options import Overrides, Preset

app = typer.Typer(help="The service's API keys.", no_args_is_help=True)
#: Short for the two scopes of each.
_BOTH = {
    "characters": (Scope.CHARACTERS_READ, Scope.CHARACTERS_WRITE),
    "jobs": (Scope.JOBS_READ, Scope.JOBS_WRITE),
    "stories": (Scope.STORIES_READ, Scope.STORIES_WRITE),
}


@app.command("create")
def create_key(
    owner: Annotated[str, typer.Option(help="Whose characters and jobs it reaches.")],
    name: Annotated[str, typer.Option(help="What tells it from others: a program, a place.")],
    scopes: Annotated[
        str, typer.Option(help=f"Any of {', '.join([*_BOTH, *Scope])}, with commas.")
    ] = "characters,images,jobs,stories",
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="At each gateway; none is any number.")] = None,
    pixel_steps_per_day: Annotated[
        int | None, typer.Option(min=1, help="Width x height x steps of a day's pictures; none is any number.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is good; none is until it is revoked.")] = None,
    preset: Preset = "tiny",
    overrides: Overrides = None,
) -> None:
    """Make a key and print it, the only time that it can be seen."""
    limits = KeyLimits(requests_per_minute, pixel_steps_per_day)
    arguments = {"owner": owner, "name": name, "scopes": scopes, "limits": limits, "days": days}
    launch(create, preset, overrides or [], **arguments)


@app.command("list")
def list_keys(preset: Preset = "tiny", overrides: Overrides = None) -> None:
    """Show every key, without its secret, and what it has spent today."""
    launch(show, preset, overrides or [])


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands between `rc-` and the next `-`.")],
    preset: Preset = "tiny",
    overrides: Overrides = None,
) -> None:
    """End a key: after seconds no gateway takes it any more."""
    launch(revoke, preset, overrides or [], identifier=key)


def create(config: Config, owner: str, name: str, scopes: str, limits: KeyLimits, days: int | None) -> None:
    lifetime_s = None if days is None else days * float(DAY_S)
    key, text = _store(config).create(owner, name, read_scopes(scopes), limits, lifetime_s)
    print(text)
    print(f"made key {key.id}: keep what is printed, it cannot be shown again", file=sys.stderr)


def show(config: Config) -> None:
    engine = open_database(config.serving.store, config.serving.database, TABLES)
    spent = UsageLedger(engine).spent()
    now = time.time()
    columns = ("owner", "name", "scopes", "limits", "today", "state")
    table = Table(Column("key", no_wrap=True), *(Column(name, overflow="fold") for name in columns))
    for key in KeyStore(engine).all():
        row = (key.id, key.owner, key.name, _scopes(key), _limits(key.limits), f"{spent.get(key.id, 0):,}")
        table.add_row(*map(Text, row), _state(key, now))
    Console().print(table)


def revoke(config: Config, identifier: str) -> None:
    _store(config).revoke(identifier)
    print(f"revoked key {identifier}", file=sys.stderr)


def read_scopes(text: str) -> list[Scope]:
    """``characters,images,jobs:read`` as scopes; ``characters`` and ``jobs`` stand for reading and writing.

    Raises:
        ConfigError: there is no such scope.
    """
    found: list[Scope] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word in _BOTH:
            found += _BOTH[word]
        elif word in set(Scope):
            found.append(Scope(word))
        else:
            raise ConfigError(f"scopes: {word!r} is none; there are {', '.join([*_BOTH, *Scope])}")
    return found


def _store(config: Config) -> KeyStore:
    return KeyStore(open_database(config.serving.store, config.serving.database, TABLES))


def _state(key: ApiKey, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {_date(key.revoked)}"
    if key.expires is None:
        return "good"
    return f"{'good until' if key.good(now) else 'expired'} {_date(key.expires)}"


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
