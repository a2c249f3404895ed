"""Jobs, keys, usage and data of all owners of a running service (`realcustom admin`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from components.errors import ConfigError
from workflows.entry import one_line_errors
from workflows.key import read_scopes
from workflows.service import LOCAL, ServiceUrl, connect

app = typer.Typer(
    help="All owners of a running service: jobs, keys, usage, audit log, export and erasure. Needs a key with the "
    "scope `admin` in REALCUSTOM_API_KEY.",
    no_args_is_help=True,
)
_Owner = Annotated[str, typer.Option(help="The owner.")]
_SomeOwner = Annotated[str | None, typer.Option("--owner", help="Only of this owner.")]
_Limit = Annotated[int, typer.Option(min=1, help="Maximum number of rows.")]


@app.command("jobs")
def list_jobs(
    url: ServiceUrl = LOCAL,
    owner: _SomeOwner = None,
    status: Annotated[str | None, typer.Option(help="queued, running, done, failed or cancelled.")] = None,
    limit: _Limit = 100,
) -> None:
    """List jobs, newest first."""
    with one_line_errors(), connect(url) as client:
        _table(islice(client.admin.jobs(owner, status), limit), ("id", "owner", "status", "attempts", "created"))


@app.command("job")
def show_job(job: Annotated[str, typer.Argument(metavar="ID", help="Id of the job.")], url: ServiceUrl = LOCAL) -> None:
    """Print a job as JSON."""
    with one_line_errors(), connect(url) as client:
        _print(client.admin.job(job))


@app.command("cancel")
def cancel_job(
    job: Annotated[str, typer.Argument(metavar="ID", help="Id of the job.")], url: ServiceUrl = LOCAL
) -> None:
    """Cancel a job, or delete one that has ended."""
    with one_line_errors(), connect(url) as client:
        _print(client.admin.cancel(job))


@app.command("keys")
def list_keys(url: ServiceUrl = LOCAL, owner: _SomeOwner = None) -> None:
    """List keys with their limits."""
    columns = ("id", "owner", "name", "scopes", "requests_per_minute", "pixel_steps_per_day", "revoked")
    with one_line_errors(), connect(url) as client:
        _table(client.admin.keys(owner), columns)


@app.command("key")
def change_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")],
    url: ServiceUrl = LOCAL,
    scopes: Annotated[str | None, typer.Option(help="New scopes, separated by commas.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="New limit; 0 removes it.")] = None,
    pixel_steps_per_day: Annotated[int | None, typer.Option(min=0, help="New limit; 0 removes it.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke the key.")] = False,
) -> None:
    """Change scopes and limits of a key, or revoke it."""
    limits = {"requests_per_minute": requests_per_minute, "pixel_steps_per_day": pixel_steps_per_day}
    values: dict[str, Any] = {name: limit or None for name, limit in limits.items() if limit is not None}
    with one_line_errors(), connect(url) as client:
        if scopes is not None:
            values["scopes"] = read_scopes(scopes)
        if bool(values) == revoke:
            raise ConfigError("give --scopes, --requests-per-minute or --pixel-steps-per-day, or --revoke alone")
        _print(client.admin.revoke_key(key) if revoke else client.admin.change_key(key, **values))


@app.command("usage")
def show_usage(
    url: ServiceUrl = LOCAL,
    owner: _SomeOwner = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="Number of days, up to today.")] = 30,
) -> None:
    """Show usage per owner and day."""
    with one_line_errors(), connect(url) as client:
        found = map(vars, client.admin.usage(owner, days))
        _table(found, ("date", "owner", "requests", "pixel_steps", "images"))


@app.command("audit")
def show_audit(
    url: ServiceUrl = LOCAL,
    owner: _SomeOwner = None,
    key: Annotated[str | None, typer.Option(help="Only of this key.")] = None,
    limit: _Limit = 100,
) -> None:
    """Print entries of the audit log as lines of JSON, newest first."""
    with one_line_errors(), connect(url) as client:
        for entry in islice(client.admin.audit(owner, key), limit):
            print(json.dumps(entry))


@app.command("export")
def export_owner(
    owner: _Owner, output: Annotated[Path, typer.Option(metavar="PATH", help="Zip file.")], url: ServiceUrl = LOCAL
) -> None:
    """Write everything of an owner to a zip file: rows as JSON lines, pictures and results as files."""
    with one_line_errors(), connect(url) as client:
        print(f"wrote {client.admin.export(owner, output)}")


@app.command("erase")
def erase_owner(
    owner: _Owner,
    confirm: Annotated[str, typer.Option(help="The owner again.")],
    receipt: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the receipt to this file, too.")] = None,
    url: ServiceUrl = LOCAL,
) -> None:
    """Erase everything of an owner, keys included, and print the receipt."""
    with one_line_errors(), connect(url) as client:
        if confirm != owner:
            raise ConfigError("confirm: repeat the owner, as a confirmation")
        told = client.admin.erase(owner)
        if receipt is not None:
            receipt.write_text(json.dumps(told, indent=1))
        _print(told)


def _print(body: Mapping[str, Any]) -> None:
    print(json.dumps(body, indent=1))


def _table(rows: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> None:
    table = Table(Column(names[0], no_wrap=True), *(Column(name, overflow="fold") for name in names[1:]))
    for row in rows:
        table.add_row(*(Text(_shown(row.get(name))) for name in names))
    Console().print(table)


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else "" if value is None else str(value)
