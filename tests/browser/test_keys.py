"""The key: asked for, refused, revoked in the middle of work, and what it may use."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from components.access.key import KeyLimits, Scope, key_id
from components.access.store import KeyStore
from components.config import Config
from components.database import open_database
from tests.browser.screens import opened
from tests.browser.service import configured
from tests.browser.stories import Headers, check_takes, new_story, read_story, until_saved
from tests.browser.test_accessibility import violations
from tests.fakes.service_process import running

Locked = tuple[Config, str]
REFUSED = "This key is unknown, revoked or expired."


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """A service that asks for a key and notices at once when one is revoked, and its URL."""
    access = ["serving.access.keys=required", "serving.access.refresh_s=0.05"]
    config = configured(tmp_path_factory.mktemp("locked"), "sampling.steps=3", *access)
    with running(config) as url:
        yield config, url


def keys(config: Config) -> KeyStore:
    return KeyStore(open_database(config.serving.store, config.serving.database))


def made_key(config: Config, owner: str, **limits: int) -> str:
    return keys(config).create(owner, "studio", frozenset({Scope.ADMIN}), KeyLimits(**limits))[1]


def revoke(config: Config, key: str) -> None:
    keys(config).revoke(str(key_id(key)))


def bearer(key: str) -> Headers:
    return {"Authorization": f"Bearer {key}"}


def enter(page: Page, key: str) -> None:
    page.get_by_role("textbox", name="Key").fill(key)
    page.get_by_role("button", name="Continue").click()


def test_a_key_is_asked_for_and_kept_in_the_tab(chromium: Browser, locked: Locked) -> None:
    config, url = locked
    key = made_key(config, "ann")
    with opened(chromium, url) as page:
        seen: list[str] = []
        page.on("request", lambda request: seen.append(request.url))
        expect(page.get_by_role("heading", name="Enter your key")).to_be_visible()
        enter(page, "sesame")
        expect(page.get_by_text("A key begins with “rc-”.")).to_be_visible()
        enter(page, key[:-4] + "0000")
        expect(page.get_by_text(REFUSED)).to_be_visible()
        enter(page, key)
        expect(page.get_by_role("button", name="Start with an example")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="Start with an example")).to_be_visible()
        assert page.evaluate("() => JSON.stringify(localStorage)").find(key) < 0
        assert not any(key in each for each in seen), "a key is in no URL"


def test_what_is_typed_while_the_key_is_revoked_is_saved_with_the_next(chromium: Browser, locked: Locked) -> None:
    config, url = locked
    old, new = made_key(config, "ben"), made_key(config, "ben")
    story = new_story(url, headers=bearer(new))
    with opened(chromium, url, f"/stories/{story}/script", key=old) as page:
        revoke(config, old)
        page.get_by_label("Panel 1", exact=True).fill("a robot in the snow")
        expect(page.get_by_role("heading", name="Enter your key")).to_be_visible()
        expect(page.get_by_text(REFUSED)).to_be_visible()
        expect(page.get_by_text("What you have changed is kept")).to_be_visible()
        assert not violations(page)
        enter(page, new[:-4] + "0000")
        expect(page.get_by_text(REFUSED)).to_be_visible()
        assert read_story(url, story, bearer(new))["panels"][0]["prompt"] == "a robot"
        enter(page, new)
        until_saved(page, url, story, "a robot in the snow", bearer(new))
        line = page.get_by_label("Panel 1", exact=True)
        expect(line).to_have_value("a robot in the snow")
        line.fill("a robot in the rain")
        until_saved(page, url, story, "a robot in the rain", bearer(new))


def test_what_a_revoked_key_asks_for_is_drawn_with_the_next(chromium: Browser, locked: Locked) -> None:
    config, url = locked
    old, new = made_key(config, "cleo"), made_key(config, "cleo")
    story = new_story(url, headers=bearer(new))
    with opened(chromium, url, f"/stories/{story}/board", key=old) as page:
        revoke(config, old)
        page.get_by_role("button", name="Draw 2 changed panels").click()
        expect(page.get_by_role("heading", name="Enter your key")).to_be_visible()
        enter(page, new)
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)
    check_takes(url, story, 2, bearer(new))


def test_too_many_requests_are_waited_for(chromium: Browser, locked: Locked) -> None:
    config, url = locked
    key = made_key(config, "dora", requests_per_minute=20)
    with opened(chromium, url, "/cast", key=key) as page:
        page.evaluate(
            """async (key) => {
                const headers = { Authorization: `Bearer ${key}` };
                while ((await fetch('/v1/models', { headers })).ok);
            }""",
            key,
        )
        page.get_by_role("link", name="History").click()
        waits = page.get_by_text("Too many requests at once. Going on in")
        expect(waits).to_be_visible()
        expect(page.get_by_text("Nothing drawn yet")).to_be_visible()
        expect(waits).to_have_count(0)


def test_a_used_up_quota_says_when_it_begins_anew(chromium: Browser, locked: Locked) -> None:
    config, url = locked
    key = made_key(config, "emil", pixel_steps_per_day=64 * 64 * 3)
    story = new_story(url, headers=bearer(key))
    with opened(chromium, url, f"/stories/{story}/board", key=key) as page:
        page.get_by_role("button", name="Draw: Panel 1").click()
        expect(page.locator("main ol [data-state=done]")).to_have_count(1)
        page.get_by_role("button", name="Draw: Panel 2").click()
        expect(page.get_by_text("The quota of this key is used up for today.")).to_be_visible()
        banner = page.get_by_text("This key has drawn all that it may today.")
        expect(banner).to_be_visible()
        page.get_by_role("link", name="Settings").click()
        used = page.get_by_role("region", name="What you have used")
        expect(used.get_by_text("100% used")).to_be_visible()
        expect(used.get_by_text("Enough for about 0 more pictures like those of today.")).to_be_visible()
        page.get_by_role("button", name="Dismiss").click()
        expect(banner).to_have_count(0)


def test_little_of_a_quota_is_told_on_every_screen(chromium: Browser, locked: Locked) -> None:
    config, url = locked
    key = made_key(config, "fay", pixel_steps_per_day=64 * 64 * 3 * 11, requests_per_minute=600)
    body = {"prompt": "a robot", "n": 10, "size": "64x64"}
    httpx.post(f"{url}/v1/images/generations", json=body, headers=bearer(key), timeout=60).raise_for_status()
    with opened(chromium, url, "/cast", key=key) as page:
        expect(page.get_by_text("9% is left of what this key may draw today.")).to_be_visible()
        page.get_by_role("link", name="Settings").click()
        used = page.get_by_role("region", name="What you have used")
        expect(used.get_by_text("91% used")).to_be_visible()
        expect(used.get_by_text("Enough for about 1 more picture like those of today.")).to_be_visible()
        expect(used.get_by_text(" of 600.")).to_be_visible()
