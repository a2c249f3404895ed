"""A browser, and services with the built studio for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.service import configured, miniature, missing
from tests.fakes.service_process import running

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser

from tests.browser import screens


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser or a built studio these tests are skipped; continuous integration has to have both."""
    why = missing()
    if why is None:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            if os.environ.get("CI"):
                raise pytest.UsageError(why)
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with screens.browser() as found:
        yield found


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service that draws with the miniature."""
    with miniature(configured(tmp_path_factory.mktemp("real"), "serving.find_words=true")) as url:
        yield url


@pytest.fixture
def painted(tmp_path: Path) -> Iterator[str]:
    """The URL of a service that paints in place of drawing."""
    with running(configured(tmp_path / "store", "sampling.steps=3")) as url:
        yield url
