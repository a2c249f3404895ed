"""Turn subject/caption pairs into encoded training shards and a manifest."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.table import Table

from components.config import Config
from components.data.manifest import REJECTS
from components.data.prepare import Prepared, prepare
from components.errors import RegistryError
from components.registry.dataset_runs import record_preparation

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Prepare ``data.source`` into ``data.output``, log it to MLflow, and print what became of its rows."""
    prepared = prepare_and_log(config)
    console = Console()
    console.print(f"{prepared.directory}: {'up to date, nothing done' if prepared.reused else 'prepared'}")
    console.print(summary(prepared))


def prepare_and_log(config: Config) -> Prepared:
    """`prepare`, and log the dataset as the input of an MLflow run. Without MLflow the dataset stands all the same."""
    prepared = prepare(config)
    try:
        record_preparation(config, prepared.directory, prepared.manifest)
    except RegistryError as error:
        logger.warning("the dataset is not logged to MLflow: %s", error)
    return prepared


def summary(prepared: Prepared) -> Table:
    """What went in and came out, and why rows were left out."""
    manifest = prepared.manifest
    table = Table(show_header=False)
    table.add_row("rows in", str(manifest.rows_in))
    if not prepared.reused:
        table.add_row("encoded now", str(prepared.encoded))
    for split, rows in manifest.splits.items():
        table.add_row(split, str(rows))
    table.add_row("left out", str(manifest.rows_rejected))
    for reason, rows in manifest.reasons.items():
        table.add_row(f"  {reason}", str(rows))
    if manifest.rows_rejected:
        table.caption = f"each is listed in {prepared.directory / REJECTS}"
    return table


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
