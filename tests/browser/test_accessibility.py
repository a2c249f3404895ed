"""axe finds nothing above "minor" on any screen and in any error state, in any language, theme and width."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from components.config import PACKAGE_ROOT
from tests.browser.error_states import ERROR_STATES
from tests.browser.screens import LANGUAGES, SCREENS, THEMES, WIDTHS, Language, Theme, make_example, opened
from tests.browser.service import configured
from tests.fakes.service_process import running

AXE = PACKAGE_ROOT / "studio/node_modules/axe-core/axe.min.js"
#: Two that differ in everything are run by default, the others with the slow tests.
_QUICK = {("en", "light", 1440), ("zh", "dark", 360)}
#: Of error states one is: they take a minute.
_QUICK_ERRORS = {("zh", "dark", 360)}


def variants(quick: set[tuple[str, str, int]]) -> list[Any]:
    return [
        pytest.param(*variant, marks=() if variant in quick else pytest.mark.slow)
        for variant in itertools.product(LANGUAGES, THEMES, WIDTHS)
    ]


@pytest.fixture(scope="module")
def example(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A service with the example story."""
    store: Path = tmp_path_factory.mktemp("example")
    with running(configured(store, "sampling.steps=3")) as url:
        with opened(chromium, url) as page:
            known = make_example(page)
        yield url, known


@pytest.mark.parametrize(("language", "theme", "width"), variants(_QUICK))
def test_every_screen(
    chromium: Browser, example: tuple[str, dict[str, str]], language: Language, theme: Theme, width: int
) -> None:
    url, known = example
    found: list[str] = []
    with opened(chromium, url, language=language, theme=theme, width=width) as page:
        for screen in SCREENS:
            screen.show(page, url, known)
            found += [f"{screen.name}: {each}" for each in [*violations(page), *too_wide(page)]]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("language", "theme", "width"), variants(_QUICK_ERRORS))
def test_every_error_state(
    chromium: Browser, example: tuple[str, dict[str, str]], language: Language, theme: Theme, width: int
) -> None:
    url, known = example
    found: list[str] = []
    with opened(chromium, url, language=language, theme=theme, width=width) as page:
        for state in ERROR_STATES:
            state.show(page, url, known)
            found += [f"{state.name}: {each}" for each in [*violations(page), *too_wide(page)]]
            state.leave(page)
    assert not found, "\n".join(found)


def too_wide(page: Page) -> list[str]:
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [f"{wide} pixels wider than the window"] if wide > 0 else []


def violations(page: Page) -> list[str]:
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())
    result: dict[str, Any] = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']} ({each['impact']}): {node['target']} {node['failureSummary']}"
        for each in result["violations"]
        if each["impact"] != "minor"
        for node in each["nodes"][:3]
    ]
