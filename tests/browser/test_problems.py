"""What goes wrong, as a person meets it: sentences with a remedy, and nothing that is typed is lost."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, Route, expect

from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.config import Config
from components.database import open_database
from tests.browser.screens import opened, settle
from tests.browser.service import configured
from tests.fakes.service_process import running


def made_key(config: Config, **limits: int) -> str:
    store = KeyStore(open_database(config.serving.store, config.serving.database))
    _, secret = store.create("ann", "studio", frozenset({Scope.ADMIN}), KeyLimits(**limits))
    return secret


def new_story(url: str, script: str = "a robot\na robot at sea", headers: dict[str, str] | None = None) -> str:
    answer = httpx.post(f"{url}/v1/stories", json={"title": "Rob", "script": script}, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_key_is_asked_for_and_kept_in_the_tab(chromium: Browser, tmp_path: Path) -> None:
    config = configured(tmp_path / "store", "serving.access.keys=required")
    key = made_key(config)
    with running(config) as url, opened(chromium, url) as page:
        seen: list[str] = []
        page.on("request", lambda request: seen.append(request.url))
        expect(page.get_by_role("heading", name="Enter your key")).to_be_visible()
        page.get_by_role("textbox", name="Key").fill("sesame")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("A key begins with “rc-”.")).to_be_visible()
        page.get_by_role("textbox", name="Key").fill(key[:-4] + "0000")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("This key is unknown, revoked or expired.")).to_be_visible()
        page.get_by_role("textbox", name="Key").fill(key)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("button", name="Start with an example")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="Start with an example")).to_be_visible()
        assert page.evaluate("() => JSON.stringify(localStorage)").find(key) < 0
        assert not any(key in each for each in seen), "a key is in no URL"


def test_a_used_up_quota_says_when_it_begins_anew(chromium: Browser, tmp_path: Path) -> None:
    config = configured(tmp_path / "store", "serving.access.keys=required", "sampling.steps=3")
    key = made_key(config, pixel_steps_per_day=64 * 64 * 3)
    with running(config) as url:
        story = new_story(url, headers={"Authorization": f"Bearer {key}"})
        with opened(chromium, url, f"/stories/{story}/board", key=key) as page:
            page.get_by_role("button", name="Draw again: Panel 1").or_(
                page.get_by_role("button", name="Draw: Panel 1")
            ).click()
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


def test_little_of_a_quota_is_told_on_every_screen(chromium: Browser, tmp_path: Path) -> None:
    config = configured(tmp_path / "store", "serving.access.keys=required", "sampling.steps=3")
    key = made_key(config, pixel_steps_per_day=64 * 64 * 3 * 11, requests_per_minute=600)
    with running(config) as url:
        body = {"prompt": "a robot", "n": 10, "size": "64x64"}
        headers = {"Authorization": f"Bearer {key}"}
        httpx.post(f"{url}/v1/images/generations", json=body, headers=headers, timeout=60).raise_for_status()
        with opened(chromium, url, "/cast", key=key) as page:
            expect(page.get_by_text("9% is left of what this key may draw today.")).to_be_visible()
            page.get_by_role("link", name="Settings").click()
            used = page.get_by_role("region", name="What you have used")
            expect(used.get_by_text("91% used")).to_be_visible()
            expect(used.get_by_text("Enough for about 1 more picture like those of today.")).to_be_visible()
            expect(used.get_by_text(" of 600.")).to_be_visible()


def test_a_busy_service_is_waited_for(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    refused = 0

    def refuse(route: Route) -> None:
        nonlocal refused
        refused += 1
        if refused > 1:
            route.continue_()
            return
        error = {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"}
        route.fulfill(status=503, headers={"Retry-After": "3"}, json={"error": error})

    with opened(chromium, painted, f"/stories/{story}/board") as page:
        page.route("**/draw", refuse)
        page.get_by_role("button", name="Draw 2 changed panels").click()
        expect(page.get_by_text("The service is busy. Going on in")).to_be_visible()
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)
        assert refused == 2


def test_an_answer_that_comes_late_takes_nothing_back(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    before = httpx.get(f"{painted}/v1/stories/{story}", timeout=60).json()
    held: list[Route] = []
    with opened(chromium, painted, f"/stories/{story}/board") as page:
        page.route(f"**/v1/stories/{story}", lambda route: held.append(route))
        page.get_by_role("button", name="Draw 2 changed panels").click()
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)
        with page.expect_response(f"**/v1/stories/{story}"):
            held[-1].fulfill(json=before)
        page.wait_for_timeout(300)
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)


def test_waiting_can_be_stopped(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    error = {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"}
    with opened(chromium, painted, f"/stories/{story}/board") as page:
        page.route("**/draw", lambda r: r.fulfill(status=503, headers={"Retry-After": "60"}, json={"error": error}))
        page.get_by_role("button", name="Draw 2 changed panels").click()
        page.get_by_role("button", name="Stop waiting").click()
        expect(page.get_by_role("alert")).to_contain_text("The service is busy. Try again in a moment.")


def test_what_is_typed_offline_is_saved_afterwards(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    with opened(chromium, painted, f"/stories/{story}/script") as page:
        page.context.set_offline(True)
        page.get_by_label("Panel 1", exact=True).fill("a robot in the snow")
        expect(page.get_by_text("This device is offline.")).to_be_visible()
        page.wait_for_timeout(1500)
        page.context.set_offline(False)
        expect(page.get_by_text("This device is offline.")).to_have_count(0)
        until_saved(page, painted, story, "a robot in the snow")


def until_saved(page: Page, url: str, story: str, prompt: str) -> None:
    for _ in range(100):
        if httpx.get(f"{url}/v1/stories/{story}", timeout=60).json()["panels"][0]["prompt"] == prompt:
            return
        page.wait_for_timeout(200)
    raise AssertionError("it was not saved")


def test_a_service_that_goes_and_comes_back(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    with opened(chromium, painted, f"/stories/{story}/script") as page:
        page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
        page.route("**/healthz", lambda route: route.abort("connectionrefused"))
        page.get_by_label("Panel 1", exact=True).fill("a robot in the rain")
        expect(page.get_by_text("No connection to the service.")).to_be_visible()
        page.unroute("**/v1/**")
        page.unroute("**/healthz")
        until_saved(page, painted, story, "a robot in the rain")
        expect(page.get_by_text("No connection to the service.")).to_have_count(0)


def test_two_tabs_that_change_one_line_lose_nothing(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    with opened(chromium, painted, f"/stories/{story}/script") as page:
        panel = httpx.get(f"{painted}/v1/stories/{story}", timeout=60).json()["panels"][0]["id"]
        # The other tab's save comes while this one has not been told of it.
        page.route("**/events", lambda route: route.abort())
        page.reload()
        settle(page)
        path = f"{painted}/v1/stories/{story}/panels/{panel}"
        httpx.patch(path, json={"prompt": "theirs"}, timeout=60).raise_for_status()
        page.get_by_label("Panel 1", exact=True).fill("mine")
        dialog = page.get_by_role("dialog", name="Changed in another place, too")
        expect(dialog).to_contain_text("theirs")
        expect(dialog).to_contain_text("mine")
        dialog.get_by_role("button", name="Keep yours").click()
        until_saved(page, painted, story, "mine")


def test_changes_of_different_fields_are_merged(chromium: Browser, painted: str) -> None:
    story = new_story(painted)
    with opened(chromium, painted, f"/stories/{story}/script") as page:
        page.route("**/events", lambda route: route.abort())
        page.reload()
        settle(page)
        panel = httpx.get(f"{painted}/v1/stories/{story}", timeout=60).json()["panels"][0]["id"]
        path = f"{painted}/v1/stories/{story}/panels/{panel}"
        httpx.patch(path, json={"caption": "theirs"}, timeout=60).raise_for_status()
        page.get_by_label("Panel 1", exact=True).fill("mine")
        until_saved(page, painted, story, "mine")
        assert httpx.get(path, timeout=60).json()["caption"] == "theirs"
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_markup_stays_text(chromium: Browser, painted: str) -> None:
    text = "<img src=x onerror=document.title='bad'> <b>bold</b>"
    story = new_story(painted, text)
    httpx.patch(f"{painted}/v1/stories/{story}", json={"title": text}, timeout=60).raise_for_status()
    with opened(chromium, painted, f"/stories/{story}/board") as page:
        expect(page.get_by_text(text).first).to_be_attached()
        assert page.locator("main b").count() == 0
        assert "bad" not in page.title()
