"""Lists of the service, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from components.client.transport import Transport

#: Rows per request.
_PAGE = 100


def pages(transport: Transport, path: str, **chosen: str) -> Iterator[dict[str, Any]]:
    """The rows of a list; ``chosen`` are query parameters."""
    after: dict[str, str] = {}
    while True:
        page = transport.json("GET", path, params={"limit": str(_PAGE)} | chosen | after)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["data"][-1]["id"]}
