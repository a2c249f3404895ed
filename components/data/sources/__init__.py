"""Sources: `read_source` reads every format of `data.format` into the schema `SubjectCaption`."""

from __future__ import annotations

from components.data.sources.read import Source, check_share, read_source

__all__ = ["Source", "check_share", "read_source"]
