"""What the owner of an API key has used, by day (`realcustom usage`)."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from workflows.service import connect


def show(url: str, days: int) -> None:
    """Print the usage of the last ``days`` days, and what is stored."""
    with connect(url) as client:
        used = client.usage(days)
    numbers = (Column(name, justify="right") for name in ("requests", "pixel-steps", "images"))
    table = Table(Column("day (UTC)", no_wrap=True), *numbers)
    for day in used.days:
        table.add_row(day.date, f"{day.requests:,}", f"{day.pixel_steps:,}", f"{day.images:,}")
    Console().print(table)
    print("stored: " + ", ".join(f"{count:,} {name}" for name, count in used.storage.items()))
