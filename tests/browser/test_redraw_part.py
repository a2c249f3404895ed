"""Redrawing a part of a take: what is painted is what changes, by mouse, touch and keyboard."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Locator, Page, Route, expect

from tests.browser.screens import PATIENCE_MS, opened

SIDE = 64


def drawn_story(url: str, line: str = "a robot") -> str:
    """The path of a story's only panel, which has a take."""
    with httpx.Client(base_url=url, timeout=60) as client:
        answer = client.post("/v1/stories", json={"title": "Rob", "script": line})
        assert answer.status_code == 201, answer.text
        story = answer.json()["id"]
        panel = answer.json()["panels"][0]["id"]
        assert client.post(f"/v1/stories/{story}/draw", json={}).status_code == 202
    (take,) = takes(url, story, 1)
    assert (take["width"], take["height"]) == (SIDE, SIDE)
    return f"/stories/{story}/board/{panel}"


def takes(url: str, story: str, count: int) -> list[dict[str, Any]]:
    """The takes of the only panel, newest first, when there are so many."""
    stop = time.monotonic() + PATIENCE_MS / 1000
    while True:
        panel = httpx.get(f"{url}/v1/stories/{story}", timeout=60).json()["panels"][0]
        assert panel["error"] is None, panel
        if len(panel["takes"]) >= count or time.monotonic() > stop:
            return list(panel["takes"])
        time.sleep(0.1)


def pixels(url: str, take: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array(Image.open(io.BytesIO(httpx.get(url + take["picture"], timeout=60).content)).convert("RGB"))


def transparent(body: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Where the mask of a request is transparent."""
    mask = Image.open(io.BytesIO(base64.b64decode(body["mask"])))
    assert mask.format == "PNG" and mask.mode == "RGBA"
    alpha = np.array(mask.getchannel("A"))
    assert set(np.unique(alpha)) <= {0, 255}
    return alpha == 0


def editor(page: Page) -> Locator:
    page.get_by_role("button", name="Redraw a part").click()
    dialog = page.get_by_role("dialog", name="Redraw a part of take 1")
    expect(dialog.get_by_role("button", name="Redraw", exact=True)).to_be_enabled()
    return dialog


def sent(page: Page) -> list[dict[str, Any]]:
    """The bodies of the requests to redraw from now on."""
    bodies: list[dict[str, Any]] = []

    def passed(route: Route) -> None:  # the browser tells the bodies of streams to those who hold requests only
        bodies.append(route.request.post_data_json)
        route.continue_()

    page.route("**/redraw", passed)
    return bodies


def stroke(page: Page, dialog: Locator, *points: tuple[float, float]) -> None:
    """By mouse, between points in pixels of the picture."""
    place = dialog.get_by_role("img", name="The take, tinted where it is redrawn").bounding_box()
    assert place
    scale = place["width"] / SIDE
    for step, (x, y) in enumerate(points):
        page.mouse.move(place["x"] + x * scale, place["y"] + y * scale, steps=3)
        if step == 0:
            page.mouse.down()
    page.mouse.up()


def tinted(dialog: Locator) -> int:
    """How many pixels of the canvas are not those of the one-coloured picture."""
    count: Any = dialog.locator("canvas").evaluate(
        """async (canvas) => {
            await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const words = new Uint32Array(data.buffer);
            return words.filter((each) => each !== words[words.length - 1]).length;
        }"""
    )
    return int(count)


def test_what_is_painted_becomes_a_new_take(chromium: Browser, painted: str) -> None:
    path = drawn_story(painted)
    story = path.split("/")[2]
    with opened(chromium, painted, path) as page:
        bodies = sent(page)
        dialog = editor(page)
        canvas = dialog.locator("canvas")
        shown = canvas.bounding_box()
        assert shown and shown["width"] == shown["height"] > SIDE and shown["width"] % SIDE == 0, shown
        assert canvas.evaluate("(each) => [each.width, each.height, getComputedStyle(each).imageRendering]") == [
            SIDE,
            SIDE,
            "pixelated",
        ]
        stroke(page, dialog, (12, 24), (40, 24))
        dialog.get_by_text("Erase", exact=True).click()
        stroke(page, dialog, (38, 24), (60, 24))
        dialog.get_by_label("What it should show").fill("a robot with a hat")
        dialog.get_by_role("textbox", name="Seed").fill("7")
        dialog.get_by_role("button", name="Redraw", exact=True).click()
        expect(dialog).to_have_count(0)
        new = page.get_by_role("button", name=re.compile("^Take 2, Chosen"))
        expect(new).to_have_attribute("aria-pressed", "true")
    (body,) = bodies
    assert {name: body[name] for name in ("strength", "prompt", "n", "seed")} == {
        "strength": 0.8,
        "prompt": "a robot with a hat",
        "n": 1,
        "seed": 7,
    }
    inside = transparent(body)
    assert inside.shape == (SIDE, SIDE)
    assert inside[24, 10:34].all() and not inside[24, 37:].any() and not inside[30:].any() and not inside[:18].any()
    after, before = takes(painted, story, 2)
    assert after["seed"] == 7 and after["settings"]["redraw"] == {"take": before["id"], "strength": 0.8}
    differs = (pixels(painted, after) != pixels(painted, before)).any(-1)
    np.testing.assert_array_equal(differs, inside)


def test_all_of_it_by_keyboard(chromium: Browser, painted: str) -> None:
    path = drawn_story(painted)
    with opened(chromium, painted, path) as page:
        bodies = sent(page)
        page.get_by_role("button", name="Redraw a part").press("Enter")
        dialog = page.get_by_role("dialog", name="Redraw a part of take 1")
        expect(dialog.get_by_role("button", name="Redraw", exact=True)).to_be_enabled()
        expect(dialog.get_by_text("5 pixels", exact=True)).to_be_visible()
        page.keyboard.press("]")
        page.keyboard.press("]")
        expect(dialog.get_by_text("7 pixels", exact=True)).to_be_visible()
        page.keyboard.press("[")
        expect(dialog.get_by_text("6 pixels", exact=True)).to_be_visible()
        prompt = dialog.get_by_label("What it should show")
        prompt.press("End")
        prompt.press("]")
        expect(prompt).to_have_value("a robot]")
        prompt.press("Backspace")
        tools = dialog.get_by_role("radiogroup", name="Tool")
        tools.get_by_role("radio", name="Paint").press("ArrowLeft")
        for side, value in {"From the left": 10, "From the top": 99, "Width": 20, "Height": 8}.items():
            field = dialog.get_by_role("textbox", name=side)
            field.fill(str(value))
            field.press("Enter")
            expect(field).to_be_focused()
        expect(dialog.get_by_role("textbox", name="From the top")).to_have_value("32")
        rectangle = dialog.get_by_role("application", name="Rectangle")
        for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Shift+ArrowRight", "Shift+ArrowDown"):
            rectangle.press(key)
        expect(dialog.get_by_role("textbox", name="From the top")).to_have_value("30")
        dialog.get_by_role("button", name="Add the rectangle").press("Enter")
        assert tinted(dialog) == 21 * 9
        dialog.get_by_role("button", name="Paint everything").press("Enter")
        assert tinted(dialog) == 0, "all pixels are alike again"
        expect(dialog.get_by_role("status")).to_have_text("100% of the picture is painted.")
        page.keyboard.press("Control+z")
        assert tinted(dialog) == 21 * 9
        strength = dialog.get_by_role("slider", name="Strength")
        strength.press("ArrowRight")
        strength.press("ArrowRight")
        dialog.get_by_role("button", name="Redraw", exact=True).press("Enter")
        expect(page.get_by_role("button", name=re.compile("^Take 2"))).to_be_visible()
    (body,) = bodies
    expected = np.zeros((SIDE, SIDE), bool)
    expected[30:39, 9:30] = True
    np.testing.assert_array_equal(transparent(body), expected)
    assert body["prompt"] is None and body["seed"] is None and abs(body["strength"] - 0.9) < 1e-9


def by_touch(session: CDPSession, points: list[tuple[float, float]]) -> None:
    for place, (x, y) in enumerate(points):
        kind = "touchMove" if place else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def by_pen(session: CDPSession, points: list[tuple[float, float]]) -> None:
    pen = {"pointerType": "pen", "button": "left", "clickCount": 1}
    for place, (x, y) in enumerate(points):
        kind = "mouseMoved" if place else "mousePressed"
        session.send("Input.dispatchMouseEvent", pen | {"type": kind, "x": x, "y": y, "buttons": 1})
    x, y = points[-1]
    session.send("Input.dispatchMouseEvent", pen | {"type": "mouseReleased", "x": x, "y": y})


PAINT = {"touch": by_touch, "pen": by_pen}


@pytest.mark.parametrize("kind", PAINT)
def test_fingers_and_pens_paint(chromium: Browser, painted: str, kind: str) -> None:
    path = drawn_story(painted)
    with opened(chromium, painted, path, width=360) as page:
        dialog = editor(page)
        place = dialog.locator("canvas").bounding_box()
        assert place and place["width"] % SIDE == 0 and place["width"] <= 360
        middle = place["y"] + place["height"] / 2
        points = [(place["x"] + place["width"] * share, middle) for share in (0.25, 0.5, 0.75)]
        PAINT[kind](page.context.new_cdp_session(page), points)
        count = tinted(dialog)
        assert 32 * 5 <= count <= 40 * 6, "a line of half the width, as wide as the brush"
        dialog.get_by_role("button", name="Undo").click()
        assert tinted(dialog) == 0, "one touch is one stroke"


def test_problems_stand_at_their_fields(chromium: Browser, painted: str) -> None:
    path = drawn_story(painted)
    with opened(chromium, painted, path) as page:
        bodies = sent(page)
        dialog = editor(page)
        redraw = dialog.get_by_role("button", name="Redraw", exact=True)
        prompt = dialog.get_by_label("What it should show")
        prompt.fill(" ")
        redraw.click()
        expect(dialog.get_by_text("Paint over what should change first.")).to_be_visible()
        expect(prompt).to_have_attribute("aria-invalid", "true")
        prompt.fill("a robot")
        dialog.get_by_role("button", name="Paint everything").click()
        expect(dialog.get_by_role("alert")).to_have_count(0)
        assert not bodies, "nothing is sent that is known to be refused"
        strength = dialog.get_by_role("slider", name="Strength")
        strength.press("Home")
        redraw.click()
        expect(dialog.get_by_role("alert")).to_have_text("With so low a strength nothing is drawn. Raise it.")
        assert bodies[-1]["mask"] is None, "all of the take needs no mask"
        strength.press("End")

        def unpainted(route: Route) -> None:
            buffer = io.BytesIO()
            Image.new("RGBA", (SIDE, SIDE), "white").save(buffer, "PNG")
            body = route.request.post_data_json | {"mask": base64.b64encode(buffer.getvalue()).decode()}
            route.continue_(post_data=json.dumps(body))

        page.route("**/redraw", unpainted)
        redraw.click()
        expect(dialog.get_by_role("alert")).to_have_text("What is marked does not fit the picture. Mark it again.")
        page.keyboard.press("Escape")
        question = page.get_by_role("dialog", name="Discard what you painted?")
        question.get_by_role("button", name="Cancel").click()
        expect(question).to_have_count(0)
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        question.get_by_role("button", name="Discard").click()
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("dialog")).to_have_count(1)
        assert len(takes(painted, path.split("/")[2], 1)) == 1
