"""Tables of prompts that are drawn as a whole."""

from __future__ import annotations

from pydantic import Field

from components.config.section import Section


class BatchConfig(Section):
    """How `generate --table` shares its rows out; a process draws with what a generator of the service reserves."""

    #: Most processes that draw at the same time, each with a pipeline of its own.
    workers: int = Field(1, ge=1)
    #: Rows that a process is handed at a time, and has in flight.
    rows: int = Field(64, ge=1)
