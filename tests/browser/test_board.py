"""A board of many panels: shown with few requests, whole in the end, and its menus work without a mouse."""

from __future__ import annotations

from collections import Counter

from playwright.sync_api import Browser, Request, expect

from tests.browser.screens import opened, settle
from tests.browser.stories import new_story

#: More than are rendered at once.
PANELS = 30


def test_every_part_of_a_board_is_asked_for_once(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    with opened(chromium, shared, f"/stories/{story}/board") as page:
        page.get_by_role("button", name="Draw 2 changed panels").click()
        expect(page.locator("main ol [data-state=done]")).to_have_count(2)
        expect(page.locator("main ol img")).to_have_count(2)
        asked: Counter[str] = Counter()

        def count(request: Request) -> None:
            if request.is_navigation_request():
                asked.clear()  # of what the page before has asked for last
            asked.update([request.url.partition(shared)[2]])

        page.on("request", count)
        page.reload()
        settle(page)
        expect(page.locator("main ol img")).to_have_count(2)
        shown = {path: count for path, count in asked.items() if path.startswith(f"/v1/stories/{story}")}
        thumbnails = {path for path in shown if "/thumbnail.webp" in path}
        assert len(thumbnails) == 2
        assert {path: shown[path] for path in [f"/v1/stories/{story}", *thumbnails]} == dict.fromkeys(
            [f"/v1/stories/{story}", *thumbnails], 1
        )
        order = list(asked)
        code = min(place for place, path in enumerate(order) if path.startswith("/v1/models"))
        assert order.index(f"/v1/stories/{story}") < code, "before the studio's code has run"


def test_all_panels_of_a_long_board_are_rendered(chromium: Browser, shared: str) -> None:
    story = new_story(shared, "\n".join(f"a robot {number}" for number in range(PANELS)))
    with opened(chromium, shared, f"/stories/{story}/board") as page:
        expect(page.locator("main ol > li")).to_have_count(PANELS)
        grip = page.get_by_role("button", name=f"Move panel {PANELS}")
        expect(grip).to_be_attached()


def test_a_panels_menu_by_keyboard(chromium: Browser, shared: str) -> None:
    story = new_story(shared)
    with opened(chromium, shared, f"/stories/{story}/board") as page:
        actions = page.get_by_role("button", name="Actions for panel 1")
        for _ in range(2):  # the first time it is made, afterwards it is there
            actions.press("Enter")
            expect(page.get_by_role("menuitem", name="Duplicate")).to_be_visible()
            page.keyboard.press("ArrowDown")
            assert page.evaluate("() => document.activeElement?.closest('[role=menu]') !== null")
            page.keyboard.press("Escape")
            expect(page.get_by_role("menu")).to_have_count(0)
            expect(actions).to_be_focused()
        draw = page.get_by_role("button", name="Draw: Panel 1")
        draw.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        hint = draw.locator("xpath=..").evaluate("(each) => getComputedStyle(each, '::after').content")
        assert "Draw" in hint, "what the button does is shown to those without a mouse, too"
