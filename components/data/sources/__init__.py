"""Where rows come from: `read_source` reads any format of `data.format` into the one schema `SubjectCaption`."""

from __future__ import annotations

from components.data.sources.read import Source, read_source

__all__ = ["Source", "read_source"]
