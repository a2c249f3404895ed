"""Sources: `read_source` reads every format of `data.format` into the schema `SubjectCaption`."""

from __future__ import annotations

from components.data.sources.read import Source, read_source

__all__ = ["Source", "read_source"]
