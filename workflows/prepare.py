"""Prepare images with captions as encoded training shards and a manifest."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.config import Config, load_config, presets
from components.data.prepare import Prepared, prepare
from components.data.rejects import REJECTS
from components.errors import ConfigError, RegistryError
from components.registry.dataset_runs import record_preparation
from components.world.write import is_world

logger = logging.getLogger(__name__)


def run(config: Config, preset_named: bool = True) -> None:
    """Prepare ``data.source`` into ``data.output``, log it to MLflow, and print the numbers of its rows.

    Raises:
        ConfigError: no preset is named, and the source is not the toy world.
    """
    if not preset_named:
        _require_toy_world(config)
    prepared = prepare_and_log(config)
    console = Console()
    console.print(f"{prepared.directory}: {'up to date, nothing done' if prepared.reused else 'prepared'}")
    console.print(summary(prepared))


def _require_toy_world(config: Config) -> None:
    """Refuse a user's own data: the default preset is that of the miniature, which trains on 64 pixels."""
    data = config.data
    source = Path(data.source) if isinstance(data.source, Path) else None
    missing = source is not None and not source.exists()  # has an error of its own
    if missing or data.format == "world" or (source is not None and is_world(source)):
        return
    sizes = {name: load_config(name).data.image_size for name in presets()}
    choice = " or ".join(f"--preset {name} ({size} px)" for name, size in sizes.items())
    raise ConfigError(
        f"data.source {data.source} is not the toy world, so name a preset, which decides the size of the training "
        f"images: {choice}"
    )


def prepare_and_log(config: Config) -> Prepared:
    """`prepare`, and log the dataset to MLflow as the input of a run. If MLflow fails, the dataset is kept."""
    prepared = prepare(config)
    try:
        record_preparation(config, prepared.directory, prepared.manifest)
    except RegistryError as error:
        logger.warning("the dataset is not logged to MLflow: %s", error)
    return prepared


def summary(prepared: Prepared) -> Table:
    """Numbers of rows of the source, of each split, and rejected, with the reasons; notes, and files passed over."""
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
    for note, rows in manifest.notes.items():
        table.add_row(f"note: {note}", str(rows))
    for reason, files in manifest.passed_over.items():
        table.add_row(f"passed over: {reason}", f"{files.count} ({', '.join(files.names)})")
    if manifest.rows_rejected:
        table.caption = f"each is listed in {prepared.directory / REJECTS}"
    return table


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
