"""A browser, and services with the built studio for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.needs import missing
from tests.browser.service import configured, miniature
from tests.fakes.service_process import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: What is not here; continuous integration has to have all of it.
MISSING = missing()
if MISSING is not None and os.environ.get("CI"):
    raise pytest.UsageError(f"tests/browser: {MISSING}")
collect_ignore_glob = [] if MISSING is None else ["test_*.py"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Playwright's event loop runs until this fixture ends, and `asyncio.run` of other tests fails beside it."""
    from tests.browser import screens

    with screens.browser() as found:
        yield found


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service that draws with the miniature."""
    with miniature(configured(tmp_path_factory.mktemp("real"), "serving.find_words=true")) as url:
        yield url


@pytest.fixture
def painted(tmp_path: Path) -> Iterator[str]:
    """The URL of a service that paints in place of drawing."""
    with running(configured(tmp_path / "store", "sampling.steps=3")) as url:
        yield url


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As `painted`, one for all tests of a file: they have stories of their own there."""
    with running(configured(tmp_path_factory.mktemp("shared"), "sampling.steps=3")) as url:
        yield url
