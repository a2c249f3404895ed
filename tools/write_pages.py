"""Writes every generated page of `docs/reference`: ``python -m tools.write_pages``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.config import PACKAGE_ROOT, load_config
from tools import api_page, cli_page, config_page
from workflows.cli import app

REFERENCE = PACKAGE_ROOT / "docs" / "reference"


def pages() -> Mapping[Path, str]:
    """Each generated page's path with what it should hold."""
    interface = api_page.interface(load_config("tiny", ["serving.access.keys=required"]))
    return {
        REFERENCE / "http.md": api_page.page(interface),
        REFERENCE / "configuration.md": config_page.page(),
        REFERENCE / "cli.md": cli_page.page(app),
    }


def main() -> None:
    """Write the pages that differ."""
    for path, content in pages().items():
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(f"wrote {path.relative_to(PACKAGE_ROOT)}")


if __name__ == "__main__":
    main()
