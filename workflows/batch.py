"""Generate images for a table of prompts with the registered model: `generate --table`."""

from __future__ import annotations

from pathlib import Path

from components.batch.run import generate_table
from components.config import Config


def run(config: Config, table: str, output: Path) -> None:
    """Generate every row of ``table`` into the folder ``output``, and print how many succeeded and how many failed."""
    report = generate_table(config, table, output)
    print(f"{report.rows} rows: {report.done} done ({report.generated} generated now), {report.failed} failed")
    print(f"wrote {report.results}")
