"""Pictures of a character: their cut-outs, corrected by hand, and the advice."""

from __future__ import annotations

import io

import httpx
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Route, expect

from tests.browser.screens import opened


def new_character(url: str, side: int = 256, name: str = "Bolt", faces: str = "") -> str:
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((side // 4, side // 4, 3 * side // 4, 3 * side // 4), fill="firebrick")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    form = {"name": name, "target_word": "robot"} | ({"faces": faces} if faces else {})
    answer = httpx.post(f"{url}/v1/characters", data=form, files={"pictures": ("a.png", buffer.getvalue())}, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_box_that_is_drawn_before_the_cut_out_has_come_is_used(chromium: Browser, painted: str) -> None:
    character = new_character(painted)
    held: list[Route] = []
    sent: list[object] = []
    with opened(chromium, painted, f"/cast/{character}") as page:
        page.route("**/mask.png", lambda route: held.append(route))
        page.on("request", lambda each: sent.append(each.post_data_json) if each.method == "PATCH" else None)
        page.get_by_role("button", name="Correct the cut-out of picture 1").click()
        canvas = page.get_by_role("img", name="Picture 1, pale where it is not cut out")
        page.wait_for_function("(each) => each.width === 256", arg=canvas.element_handle())
        place = canvas.bounding_box()
        assert place
        page.mouse.move(place["x"] + place["width"] / 8, place["y"] + place["height"] / 8)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2, steps=4)
        with page.expect_response("**/mask.png"):
            held[0].continue_()
        page.mouse.move(place["x"] + 3 * place["width"] / 4, place["y"] + 3 * place["height"] / 4, steps=4)
        with page.expect_request(lambda each: each.method == "PATCH"):
            page.mouse.up()
    (body,) = sent
    assert isinstance(body, dict)
    assert all(abs(side - wanted) <= 3 for side, wanted in zip(body["box"], (32, 32, 192, 192), strict=True)), body


def test_advice_is_lines_on_a_phone(chromium: Browser, painted: str) -> None:
    character = new_character(painted, side=48)
    advice = httpx.get(f"{painted}/v1/characters/{character}", timeout=60).json()["pictures"][0]["advice"]["sentences"]
    assert advice, "so small a picture is advised against"
    with opened(chromium, painted, f"/cast/{character}", width=360) as page:
        line = page.get_by_text(advice[0])
        expect(line).to_be_visible()
        box = line.bounding_box()
        assert box and box["width"] > 180, "as wide as the card, not beside its buttons"


def test_a_face_is_framed_in_its_picture(chromium: Browser, painted: str) -> None:
    character = new_character(painted, faces="[[64, 64, 192, 128]]")
    with opened(chromium, painted, f"/cast/{character}") as page:
        expect(page.get_by_text("Face found, in the frame")).to_be_visible()
        picture = page.get_by_alt_text("Picture 1", exact=True)
        whole, frame = picture.bounding_box(), picture.locator("xpath=..").locator("span span").bounding_box()
        assert whole and frame
        shares = [
            (frame["x"] - whole["x"]) / whole["width"],
            (frame["y"] - whole["y"]) / whole["height"],
            frame["width"] / whole["width"],
            frame["height"] / whole["height"],
        ]
        assert all(abs(share - wanted) < 0.02 for share, wanted in zip(shares, (0.25, 0.25, 0.5, 0.25), strict=True))
