"""Generation of images for a whole table of prompts."""

from __future__ import annotations

from pydantic import Field

from components.config.section import Section


class BatchConfig(Section):
    """Parallelism of `generate --table`. A process reserves the CPUs and GPUs of a generator of the service."""

    workers: int = Field(1, ge=1)
    """Maximum number of processes that generate at the same time, each with a pipeline of its own."""
    rows: int = Field(64, ge=1)
    """Rows per Ray Data batch: a process receives this many at a time."""
