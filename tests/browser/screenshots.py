"""Screenshots of every screen into ``docs/images/studio``: ``python -m tests.browser.screenshots``.

``--all`` makes them in both languages, both themes and at both widths, too, into a directory of its own.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.needs import missing
from tests.browser.screens import (
    LANGUAGES,
    SCREENS,
    THEMES,
    WIDTHS,
    Language,
    Theme,
    browser,
    make_example,
    opened,
)
from tests.browser.service import configured, miniature

PLACE = Path("docs/images/studio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, help="directory for every language, theme and width")
    wanted = parser.parse_args()
    if (why := missing()) is not None:
        raise SystemExit(why)
    with tempfile.TemporaryDirectory() as store, miniature(configured(Path(store))) as url, browser() as chromium:
        shoot(chromium, url, wanted.all)


def shoot(chromium: Browser, url: str, everything: Path | None) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with opened(chromium, url) as page:
        page.screenshot(path=PLACE / "empty.png")
        known = make_example(page)
    variants: list[tuple[Path, Language, Theme, int]] = [(PLACE, "en", "light", 1440)]
    if everything is not None:
        everything.mkdir(parents=True, exist_ok=True)
        variants += [(everything, *each) for each in itertools.product(LANGUAGES, THEMES, WIDTHS)]
    for place, language, theme, width in variants:
        with opened(chromium, url, language=language, theme=theme, width=width) as page:
            for screen in SCREENS:
                screen.show(page, url, known)
                name = screen.name if place is PLACE else f"{screen.name}-{language}-{theme}-{width}"
                page.screenshot(path=place / f"{name}.png", full_page=not screen.dialog)


if __name__ == "__main__":
    main()
