"""One picture: drawn from a picture that is dropped, and again with the settings of one in the history."""

from __future__ import annotations

import io
import re
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.screens import opened
from tests.browser.test_character import new_character


def png(side: int = 96) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "firebrick").save(buffer, "PNG")
    return buffer.getvalue()


def drawn(url: str) -> list[dict[str, Any]]:
    """The history, newest first."""
    data: list[dict[str, Any]] = httpx.get(f"{url}/v1/history", timeout=60).json()["data"]
    return data


def draw_again(page: Page, prompt: str) -> None:
    page.get_by_role("button", name=f"Open the picture: {prompt}").first.click()
    dialog = page.get_by_role("dialog", name="Settings")
    expect(dialog.get_by_text("Sampler")).to_be_visible()
    dialog.get_by_role("button", name="Use these settings again").click()
    expect(page.get_by_role("heading", name="One picture")).to_be_visible()


def test_a_dropped_picture_is_drawn_and_its_settings_are_used_again(chromium: Browser, painted: str) -> None:
    with opened(chromium, painted, "/picture") as page:
        page.locator("input[type=file]").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png()})
        page.get_by_label("What should be in the picture?").fill("a slow robot at sea")
        page.get_by_role("button", name="Advanced").click()
        page.get_by_label("Not in the picture").fill("rain")
        page.get_by_label("Seed", exact=True).fill("7")
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.get_by_text("Seed 7")).to_be_visible()
        page.get_by_role("link", name="Every result is kept in History.").click()
        draw_again(page, "a slow robot at sea")
        expect(page.get_by_label("What should be in the picture?")).to_have_value("a slow robot at sea")
        expect(page.get_by_label("Seed", exact=True)).to_have_value("7")
        expect(page.get_by_label("Steps", exact=True)).to_have_value("3")
        expect(page.get_by_label("Not in the picture")).to_have_value("rain")
        expect(page.get_by_text("The picture that it was drawn from is not kept.")).to_be_visible()
    assert [each["settings"]["negative_prompt"] for each in drawn(painted)] == ["rain"]


def test_a_panel_is_drawn_again_with_its_characters(chromium: Browser, painted: str) -> None:
    character = new_character(painted)
    body = {"title": "Rob", "script": "a photo of @Bolt at sea"}
    story = httpx.post(f"{painted}/v1/stories", json=body, timeout=60).json()["id"]
    panel = httpx.get(f"{painted}/v1/stories/{story}", timeout=60).json()["panels"][0]["id"]
    chosen = {"characters": [{"id": character, "strength": 1.5, "face_strength": 1, "body_strength": 0.5}]}
    httpx.patch(f"{painted}/v1/stories/{story}/panels/{panel}", json=chosen, timeout=60).raise_for_status()
    with opened(chromium, painted, f"/stories/{story}/board") as page:
        page.get_by_role("button", name="Draw 1 changed panel").click()
        expect(page.locator("main ol [data-state=done]")).to_have_count(1)
        page.get_by_role("link", name="History").click()
        draw_again(page, "a photo of @Bolt at sea")
        expect(page.get_by_label("What should be in the picture?")).to_have_value("a photo of robot at sea")
        expect(page.get_by_role("slider", name="Likeness of Bolt")).to_have_attribute("aria-valuenow", "1.5")
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.get_by_text(re.compile(r"^Seed \d+$"))).to_be_visible()
    again, first = drawn(painted)
    assert again["story"] is None and first["story"] == story
    assert again["seed"] == first["seed"]
    known = ("id", "target_word", "strength", "face_strength", "body_strength")
    assert [[each[name] for name in known] for each in again["settings"]["characters"]] == [
        [character, "robot", 1.5, 1, 0.5]
    ]
    pictures = [httpx.get(f"{painted}{each['picture']}", timeout=60).content for each in (again, first)]
    assert pixels(pictures[0]) == pixels(pictures[1]), "the same settings draw the same picture"


def pixels(picture: bytes) -> bytes:
    return Image.open(io.BytesIO(picture)).convert("RGB").tobytes()


def test_what_is_refused_is_told_at_its_field(chromium: Browser, painted: str) -> None:
    with opened(chromium, painted, "/picture") as page:
        page.locator("input[type=file]").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no"})
        page.get_by_label("What should be in the picture?").fill("a robot")
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.get_by_text("This file is not a picture that can be read.")).to_be_visible()


def test_drawing_can_be_stopped(chromium: Browser, painted: str) -> None:
    with opened(chromium, painted, "/picture") as page:
        page.locator("input[type=file]").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png()})
        page.get_by_label("What should be in the picture?").fill("a sluggish robot")
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.get_by_text(re.compile(r"^Waiting for the first look at it|^Step \d"))).to_be_visible()
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("The picture appears here.")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
