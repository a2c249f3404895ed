"""What the tests in a browser need of a machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from components.config import PACKAGE_ROOT

#: Debian's; a browser of Playwright's own would have to be downloaded.
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-background-networking"]


def missing() -> str | None:
    """What these tests need and is not here, as a sentence."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install playwright"
    if not CHROMIUM.exists():
        return f"{CHROMIUM} is not installed: apt-get install chromium"
    if not (PACKAGE_ROOT / "studio/dist/index.html").exists():
        return "the studio is not built: make studio"
    return None
