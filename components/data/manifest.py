"""The manifest of a prepared dataset: row counts, rejects with reasons, encoders and configuration."""

from __future__ import annotations

import logging
import operator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.data.rejects import PassedOver
from components.data.schema import READ_VERSIONS, SCHEMA_VERSION
from components.errors import DataError

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
SHARDS = "shards"
REFERENCES = "references"
#: What stands for no reference and no caption (`components.model.unconditional_inputs`).
UNCONDITIONAL = "unconditional.safetensors"
_BUCKET = "bucket="


class Manifest(BaseModel):
    """``manifest.json``. Rows are conserved: ``rows_in == rows_out + rows_rejected``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    #: Column -> type; lengths that differ between buckets are ``*``. `components.data.schema` documents the columns.
    columns: dict[str, str]
    #: The same of the references; empty in version 3, whose rows hold their references.
    references: dict[str, str] = {}
    #: Fingerprint of the content of the source, the settings, the encoders and the stage versions.
    fingerprint: str
    rows_in: int
    rows_out: int
    rows_rejected: int
    #: "stage: reason" -> rows, most frequent first.
    reasons: dict[str, int]
    #: Files of the source that are no rows, by reason.
    passed_over: dict[str, PassedOver] = {}
    #: Notes on rows that are part of the dataset -> rows. Left out if there are none: earlier releases do not know it.
    notes: Annotated[dict[str, int], Field(exclude_if=operator.not_)] = {}
    #: Rows of each split, in ``shards/split=<name>``.
    splits: dict[str, int]
    #: Rows of each split's buckets, in ``bucket=<width>x<height>`` of the split's directory.
    buckets: dict[str, dict[str, int]]
    #: Names of the units of work, which are the names of their shards.
    units: list[str]
    #: Identity of the base model's parts and of the vision encoders.
    encoders: dict[str, str]
    #: The pooled text vector, see `components.config.ConditioningConfig`.
    text_pooling: Literal["projected", "unprojected"] = "projected"
    #: Identity of the stage versions (`components.data.stage_versions`).
    code: str
    config: dict[str, Any]

    def holds(self, column: str) -> bool:
        """Whether rows or references have ``column``."""
        return column in self.columns or column in self.references


def load_manifest(directory: Path) -> Manifest:
    """Read the manifest of a prepared dataset.

    Raises:
        DataError: ``directory`` is no prepared dataset, or has another schema version.
    """
    file = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{directory} is no prepared dataset (no {MANIFEST}): run `realcustom prepare` first") from None
    except (OSError, ValidationError):
        raise DataError(f"{file} cannot be read as a manifest: prepare the dataset again") from None
    if manifest.schema_version not in READ_VERSIONS:
        raise DataError(
            f"{file} has schema version {manifest.schema_version}, this release reads "
            f"{' and '.join(map(str, READ_VERSIONS))}: "
            "run `realcustom prepare` again"
        )
    return manifest


def find_manifest(directory: Path) -> Manifest | None:
    """The manifest of the dataset in ``directory``; None if it is empty, or has another schema version.

    Raises:
        DataError: it contains something other than a dataset, which must not be replaced.
    """
    if not (directory / MANIFEST).exists():
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise DataError(
                f"data.output: {directory} contains something other than a dataset; choose another directory"
            )
        return None
    try:
        return load_manifest(directory)
    except DataError as error:
        logger.info("%s will be replaced: %s", directory, error)
        return None


def shards(directory: Path, split: str) -> Path:
    """The directory of a split's parquet files, with one folder for each bucket."""
    return directory / SHARDS / f"split={split}"


def bucket_shards(directory: Path, split: str) -> dict[str, Path]:
    """The directory of each bucket's parquet files, for buckets with rows of ``split``."""
    folders = sorted(shards(directory, split).glob(f"{_BUCKET}*"))
    return {folder.name.removeprefix(_BUCKET): folder for folder in folders}


def references_folder(directory: Path, split: str) -> Path:
    """The directory of a split's references: a file for all shards of the same name."""
    return directory / REFERENCES / f"split={split}"


def shard_folder(directory: Path, split: str, bucket: str) -> Path:
    """The directory of the parquet files of one bucket."""
    return shards(directory, split) / f"{_BUCKET}{bucket}"
