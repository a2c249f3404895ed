"""A panel: who is in its picture, and where it stands in the queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, expect

from tests.browser.screens import opened
from tests.browser.service import configured
from tests.browser.stories import new_story
from tests.browser.test_character import new_character
from tests.fakes.service_process import running


def panels(url: str, story: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/v1/stories/{story}", timeout=60).json()["panels"]
    return found


def until_strengths(page: Page, url: str, story: str, wanted: tuple[float, float, float]) -> None:
    known: list[Any] = []
    for _ in range(100):
        known = [
            (each["strength"], each["face_strength"], each["body_strength"])
            for each in panels(url, story)[0]["characters"]
        ]
        if known == [wanted]:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"{known} is saved, and not {wanted}")


def test_a_character_is_left_out_and_comes_back_as_it_was(chromium: Browser, painted: str) -> None:
    character = new_character(painted)
    story = new_story(painted, "a photo of @Bolt at sea")
    panel = panels(painted, story)[0]["id"]
    chosen = {"characters": [{"id": character, "strength": 1.5, "face_strength": 1, "body_strength": 0.5}]}
    path = f"{painted}/v1/stories/{story}/panels/{panel}"
    httpx.patch(path, json=chosen, timeout=60).raise_for_status()
    with opened(chromium, painted, f"/stories/{story}/board/{panel}") as page:
        inside = page.get_by_role("switch", name="In this picture: Bolt")
        expect(inside).to_be_checked()
        inside.press("Space")
        expect(page.get_by_text("Only its word, “robot”, is drawn")).to_be_visible()
        until_strengths(page, painted, story, (0, 1, 0.5))
        expect(inside).to_be_focused()
        inside.press("Space")
        until_strengths(page, painted, story, (1.5, 1, 0.5))


def test_the_keyboard_stays_on_a_slider_whose_value_is_saved(chromium: Browser, painted: str) -> None:
    new_character(painted)
    story = new_story(painted, "a photo of @Bolt at sea")
    panel = panels(painted, story)[0]["id"]
    with opened(chromium, painted, f"/stories/{story}/board/{panel}") as page:
        slider = page.get_by_role("slider", name="Whole of Bolt")
        slider.focus()
        page.keyboard.press("ArrowRight")
        until_strengths(page, painted, story, (1.05, 1, 1))
        expect(slider).to_be_focused()
        page.keyboard.press("ArrowRight")
        until_strengths(page, painted, story, (1.1, 1, 1))


def test_a_story_is_told_with_another_character(chromium: Browser, painted: str) -> None:
    new_character(painted)
    new_character(painted, name="Ada Lovelace")
    before = ["a photo of @Bolt at sea", "a robot", "@Bolt and @bolt"]
    after = ['a photo of @"Ada Lovelace" at sea', "a robot", '@"Ada Lovelace" and @"Ada Lovelace"']
    story = new_story(painted, "\n".join(before))
    with opened(chromium, painted, f"/stories/{story}/script") as page:
        page.get_by_role("button", name="Replace Bolt in the whole story").press("Enter")
        page.get_by_role("menuitem", name="Ada Lovelace").press("Enter")
        expect(page.get_by_text("Ada Lovelace is in 2 panels now.")).to_be_visible()
        assert [each["prompt"] for each in panels(painted, story)] == after
        expect(page.get_by_label("Panel 1", exact=True)).to_have_value(after[0])
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_label("Panel 3", exact=True)).to_have_value("@Bolt and @Bolt")
        expect(page.get_by_role("button", name="Replace Bolt in the whole story")).to_be_visible()
    assert panels(painted, story)[0]["prompt"] == before[0]


def test_a_panel_becomes_a_character(chromium: Browser, painted: str) -> None:
    story = new_story(painted, "a robot at sea")
    with opened(chromium, painted, f"/stories/{story}/board") as page:
        page.get_by_role("button", name="Draw 1 changed panel").click()
        expect(page.locator("main ol [data-state=done]")).to_have_count(1)
        page.get_by_role("button", name="Actions for panel 1").click()
        page.get_by_role("menuitem", name="Make it a character").click()
        expect(page.get_by_alt_text("Cut-out of picture 1")).to_be_visible()
        expect(page.get_by_role("button", name="Create the character")).to_be_visible()


def test_a_name_that_nobody_has_is_made_a_character(chromium: Browser, painted: str) -> None:
    story = new_story(painted, '@"Ada L" at sea')
    with opened(chromium, painted, f"/stories/{story}/script") as page:
        page.get_by_role("link", name="Create “Ada L”").click()
        page.get_by_text("From a prompt", exact=True).click()
        page.get_by_label("What does it look like?").fill("a photo of a robot")
        page.get_by_role("button", name="Draw four candidates").click()
        expect(page.get_by_label("Name")).to_have_value("Ada L")


def test_a_panel_is_drawn_with_a_lora(chromium: Browser, tmp_path: Path) -> None:
    loras = "model.loras={flat: flat.safetensors, ink: ink.safetensors}"
    with running(configured(tmp_path / "store", "sampling.steps=3", loras)) as url:
        story = new_story(url, "a robot at sea")
        panel = panels(url, story)[0]["id"]
        with opened(chromium, url, f"/stories/{story}/board/{panel}") as page:
            page.get_by_role("button", name="Advanced").click()
            expect(page.get_by_role("checkbox", name="flat")).not_to_be_checked()
            page.get_by_role("checkbox", name="ink").check()
            weight = page.get_by_role("textbox", name="Weight of ink")
            weight.fill("0.5")
            weight.press("Enter")
            page.get_by_role("button", name="Draw", exact=True).click()
            page.get_by_role("button", name="Settings of this take").click()
            expect(page.get_by_text("ink 0.5")).to_be_visible()
        assert panels(url, story)[0]["loras"] == [{"name": "ink", "weight": 0.5}]


def test_waiting_panels_say_how_many_are_before_them(chromium: Browser, tmp_path: Path) -> None:
    config = configured(tmp_path / "store", "sampling.steps=3", "serving.jobs.concurrency=1")
    with running(config) as url:
        story = new_story(url, "a sluggish robot\n" * 4)
        with opened(chromium, url, f"/stories/{story}/board") as page:
            page.get_by_role("button", name="Draw 4 changed panels").click()
            expect(page.get_by_text("Waiting, next of yours")).to_be_visible()
            expect(page.get_by_text("Waiting, 1 of yours before it")).to_be_visible()
            page.get_by_role("button", name="Stop drawing all").click()
            expect(page.locator("main ol [data-state=queued]")).to_have_count(0)
