"""What goes wrong, as a person meets it: sentences with a remedy, and nothing that is typed is lost."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import Browser, Route, expect

from tests.browser.screens import opened, settle
from tests.browser.stories import new_story, read_story, until_saved


def test_a_busy_service_is_waited_for(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    refused = 0

    def refuse(route: Route) -> None:
        nonlocal refused
        refused += 1
        if refused > 1:
            route.continue_()
            return
        error = {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"}
        route.fulfill(status=503, headers={"Retry-After": "3"}, json={"error": error})

    with opened(chromium, shared, f"/stories/{story}/board") as page:
        page.route("**/draw", refuse)
        page.get_by_role("button", name="Draw 2 changed panels").click()
        expect(page.get_by_text("The service is busy. Going on in")).to_be_visible()
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)
        assert refused == 2


def test_an_answer_that_comes_late_takes_nothing_back(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    before = read_story(shared, story)
    held: list[Route] = []
    with opened(chromium, shared, f"/stories/{story}/board") as page:
        page.route(f"**/v1/stories/{story}", lambda route: held.append(route))
        page.get_by_role("button", name="Draw 2 changed panels").click()
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)
        with page.expect_response(f"**/v1/stories/{story}"):
            held[-1].fulfill(json=before)
        page.wait_for_timeout(300)
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)


def test_waiting_can_be_stopped(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    error = {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"}
    with opened(chromium, shared, f"/stories/{story}/board") as page:
        page.route("**/draw", lambda r: r.fulfill(status=503, headers={"Retry-After": "60"}, json={"error": error}))
        page.get_by_role("button", name="Draw 2 changed panels").click()
        page.get_by_role("button", name="Stop waiting").click()
        expect(page.get_by_role("alert")).to_contain_text("The service is busy. Try again in a moment.")


def test_what_is_typed_offline_is_saved_afterwards(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    with opened(chromium, shared, f"/stories/{story}/script") as page:
        page.context.set_offline(True)
        page.get_by_label("Panel 1", exact=True).fill("a robot in the snow")
        expect(page.get_by_text("This device is offline.")).to_be_visible()
        page.wait_for_timeout(1500)
        page.get_by_label("Panel 1", exact=True).fill("a robot in the snow at night")
        page.wait_for_timeout(1500)
        page.context.set_offline(False)
        expect(page.get_by_text("This device is offline.")).to_have_count(0)
        until_saved(page, shared, story, "a robot in the snow at night")


def test_a_service_that_goes_and_comes_back(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    with opened(chromium, shared, f"/stories/{story}/script") as page:
        page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
        page.route("**/healthz", lambda route: route.abort("connectionrefused"))
        page.get_by_label("Panel 1", exact=True).fill("a robot in the rain")
        expect(page.get_by_text("No connection to the service.")).to_be_visible()
        page.unroute("**/v1/**")
        page.unroute("**/healthz")
        until_saved(page, shared, story, "a robot in the rain")
        expect(page.get_by_text("No connection to the service.")).to_have_count(0)


def test_what_was_just_typed_is_what_is_drawn(chromium: Browser, shared: str) -> None:
    story = new_story(shared, "a robot")
    (panel,) = read_story(shared, story)["panels"]
    saves: list[Route] = []
    sent: list[str] = []
    with opened(chromium, shared, f"/stories/{story}/board/{panel['id']}") as page:
        page.on("request", lambda each: sent.append(each.url.rpartition("/")[2]))
        page.route(f"**/panels/{panel['id']}", lambda route: saves.append(route))
        page.get_by_label("Prompt", exact=True).fill("a robot in the snow")
        page.get_by_role("button", name="Draw", exact=True).click()
        page.wait_for_timeout(500)
        assert len(saves) == 1 and "draw" not in sent, "it waits until the line is saved"
        saves[0].continue_()
        expect(page.get_by_role("button", name=re.compile("^Take 1"))).to_be_visible()
    (take,) = read_story(shared, story)["panels"][0]["takes"]
    assert take["settings"]["prompt"] == "a robot in the snow"


def test_two_tabs_on_one_story(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    path = f"/stories/{story}/script"
    with opened(chromium, shared, path) as one, opened(chromium, shared, path) as other:
        mine, theirs = (tab.get_by_label("Panel 1", exact=True) for tab in (one, other))
        theirs.fill("a robot in the snow")
        expect(mine).to_have_value("a robot in the snow")
        # From here on one tab is not told what the other saves.
        one.route("**/events", lambda route: route.abort())
        one.reload()
        settle(one)
        theirs.fill("theirs")
        until_saved(other, shared, story, "theirs")
        mine.fill("mine")
        dialog = one.get_by_role("dialog", name="Changed in another place, too")
        expect(dialog).to_contain_text("theirs")
        expect(dialog).to_contain_text("mine")
        dialog.get_by_role("button", name="Keep yours").click()
        expect(theirs).to_have_value("mine")
        theirs.fill("theirs again")
        until_saved(other, shared, story, "theirs again")
        mine.fill("mine again")
        dialog.get_by_role("button", name="Keep theirs").click()
        expect(mine).to_have_value("theirs again")
        expect(theirs).to_have_value("theirs again")


def test_changes_of_different_fields_are_merged(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    with opened(chromium, shared, f"/stories/{story}/script") as page:
        page.route("**/events", lambda route: route.abort())
        page.reload()
        settle(page)
        panel = read_story(shared, story)["panels"][0]["id"]
        path = f"{shared}/v1/stories/{story}/panels/{panel}"
        httpx.patch(path, json={"caption": "theirs"}, timeout=60).raise_for_status()
        page.get_by_label("Panel 1", exact=True).fill("mine")
        until_saved(page, shared, story, "mine")
        assert httpx.get(path, timeout=60).json()["caption"] == "theirs"
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_markup_stays_text(chromium: Browser, shared: str) -> None:
    text = "<img src=x onerror=document.title='bad'> <b>bold</b>"
    story = new_story(shared, text)
    httpx.patch(f"{shared}/v1/stories/{story}", json={"title": text}, timeout=60).raise_for_status()
    with opened(chromium, shared, f"/stories/{story}/board") as page:
        expect(page.get_by_text(text).first).to_be_attached()
        assert page.locator("main b").count() == 0
        assert "bad" not in page.title()
