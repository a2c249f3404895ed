"""The whole way as a person goes it, with the miniature: from an empty studio to a comic that another one opens."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pypdf
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from tests.browser.screens import PATIENCE_MS, opened, settle

SCRIPT = """1. @Bolt on the beach
2. @Miso in the snow
3. @Bolt and @Miso in a meadow
@Bolt at night
@Miso on a road
@Bolt and @Miso at night"""
#: For what is drawn: a busy machine takes its time.
DRAWN_MS = 180_000


def drawing(place: Path) -> Path:
    """A picture of something red on white."""
    image = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((84, 110, 172, 220), fill="firebrick")
    draw.ellipse((94, 40, 162, 112), fill="firebrick")
    draw.ellipse((110, 66, 122, 78), fill="white")
    path = place / "bolt.png"
    image.save(path)
    return path


def cards(page: Page, state: str) -> int:
    return page.locator(f"main ol [data-state={state}]").count()


def test_from_an_empty_studio_to_a_comic(chromium: Browser, real: str, tmp_path: Path) -> None:
    with opened(chromium, real, "/cast") as page:
        from_a_picture(page, tmp_path)
        from_a_prompt(page)
        write_the_script(page)
        story = page.url.split("/stories/")[1].split("/")[0]
        page.get_by_role("link", name="Board", exact=True).click()
        page.get_by_role("button", name="Draw 6 changed panels").click()
        expect(page.get_by_text(re.compile(r"Step \d+ of 20|Waiting")).first).to_be_visible()
    # The tab is closed in the middle; the service draws on, and the board comes back.
    with opened(chromium, real, f"/stories/{story}/board") as page:
        expect(page.locator("main ol [data-state=done]")).to_have_count(6, timeout=DRAWN_MS)
        settle(page)
        redraw_with_another_strength(page)
        lock_the_seed(page)
        compare_takes(page)
        reorder_by_keyboard(page)
        page.get_by_role("link", name="Pages", exact=True).click()
        write_a_balloon(page)
        pdf = export(page, "PDF", tmp_path / "book.pdf")
        archive = export(page, "Story file", tmp_path / "book.story.zip")
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    assert len(pages) == 3, "a title page, and six panels of four a page"
    assert "Two of a kind" in pages[0].extract_text()
    assert "Look, the sea!" in "".join(each.extract_text() for each in pages)
    import_again(chromium, real, tmp_path, archive)


def from_a_picture(page: Page, tmp_path: Path) -> None:
    page.get_by_role("button", name="New character").click()
    expect(page.get_by_text("Drop up to four pictures here")).to_be_visible()
    page.locator("input[type=file]").set_input_files(drawing(tmp_path))
    expect(page.get_by_alt_text("Cut-out of picture 1")).to_be_visible()
    expect(page.get_by_alt_text("Picture 1", exact=True)).to_be_visible()
    correct_the_cut_out(page)
    page.get_by_role("button", name="Create the character").click()
    expect(page.get_by_text("Give the character a name.")).to_be_visible()
    page.get_by_label("Name").fill("Bolt")
    page.get_by_label("Word").fill("robot")
    page.get_by_role("button", name="Create the character").click()
    expect(page.get_by_text("Bolt is in the cast. Mention it as @Bolt.")).to_be_visible()


def correct_the_cut_out(page: Page) -> None:
    """By a box that the keyboard moves, then by a brush; the cut-out follows each."""
    page.get_by_role("button", name="Correct the cut-out of picture 1").click()
    dialog = page.get_by_role("dialog", name="Correct the cut-out of picture 1")
    box, shown = (
        dialog.get_by_role("application"),
        dialog.get_by_alt_text("Cut-out of picture 1").locator("visible=true"),
    )
    box.press("Shift+ArrowUp")
    first = shown.get_attribute("src")
    with page.expect_response(lambda answer: answer.request.method == "PATCH" and answer.ok):
        dialog.get_by_role("button", name="Find it in the box").click()
    expect(shown).not_to_have_attribute("src", first or "")
    dialog.get_by_text("Add", exact=True).click()
    canvas = dialog.get_by_role("img", name="Picture 1, pale where it is not cut out").bounding_box()
    assert canvas
    x, y = canvas["x"] + canvas["width"] / 5, canvas["y"] + canvas["height"] / 5
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + canvas["width"] / 3, y, steps=5)
    page.mouse.up()
    with page.expect_response(lambda answer: answer.request.method == "PATCH" and answer.ok):
        dialog.get_by_role("button", name="Use what is painted").click()
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def from_a_prompt(page: Page) -> None:
    page.get_by_role("button", name="New character").click()
    page.get_by_text("From a prompt", exact=True).click()
    page.get_by_label("What does it look like?").fill("a photo of an orange cat")
    page.get_by_role("button", name="Draw four candidates").click()
    expect(page.get_by_role("radio", name="Candidate 4")).to_be_attached(timeout=DRAWN_MS)
    page.get_by_role("radio", name="Candidate 2").check(force=True)
    page.get_by_label("Name").fill("bolt")
    expect(page.get_by_text("Another character has this name.")).to_be_visible()
    page.get_by_label("Name").fill("Miso")
    page.get_by_label("Word").fill("cat")
    page.get_by_role("button", name="Create the character").click()
    expect(page.get_by_text("Miso is in the cast. Mention it as @Miso.")).to_be_visible()


def write_the_script(page: Page) -> None:
    page.get_by_role("link", name="Stories").first.click()
    page.get_by_role("button", name="New story").first.click()
    page.get_by_label("Title").fill("Two of a kind")
    page.get_by_role("button", name="Create", exact=True).click()
    page.get_by_role("button", name="Add a panel").click()
    first = page.get_by_label("Panel 1", exact=True)
    first.fill("@bo")
    page.get_by_role("option", name="Bolt").click()
    expect(first).to_have_value("@Bolt ")
    first.fill("@Nobody runs")
    expect(page.get_by_text("“Nobody” is nobody in the cast.")).to_be_visible()
    first.fill("")
    page.evaluate(
        """(text) => {
            const data = new DataTransfer();
            data.setData('text/plain', text);
            const pasted = { clipboardData: data, bubbles: true, cancelable: true };
            document.activeElement.dispatchEvent(new ClipboardEvent('paste', pasted));
        }""",
        SCRIPT,
    )
    expect(page.get_by_label("Panel 6", exact=True)).to_have_value("@Bolt and @Miso at night")
    expect(page.get_by_label("Panel 1", exact=True)).to_have_value("@Bolt on the beach")
    # Typed text is saved after a moment.
    page.wait_for_timeout(1500)


def redraw_with_another_strength(page: Page) -> None:
    page.get_by_role("link", name="Open panel 1").click()
    slider = page.get_by_role("slider", name="Face of Bolt")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    expect(page.get_by_text("strong", exact=True)).to_be_visible()
    page.get_by_role("button", name="Draw again", exact=True).click()
    expect(page.get_by_role("button", name=re.compile("^Take 2"))).to_be_visible(timeout=DRAWN_MS)


def lock_the_seed(page: Page) -> None:
    lock = page.get_by_role("button", name="Lock the seed")
    lock.click()
    expect(lock).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("Locked: every drawing uses this seed")).to_be_visible()


def compare_takes(page: Page) -> None:
    page.get_by_role("button", name="Compare takes").click()
    dialog = page.get_by_role("dialog", name="Compare takes of panel 1")
    expect(dialog.locator("img")).to_have_count(2)
    dialog.get_by_role("button", name="Choose this take").click()
    expect(dialog.get_by_role("button", name="Choose this take")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("dialog")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def reorder_by_keyboard(page: Page) -> None:
    texts = page.locator("main ol p[title]")
    before = texts.all_inner_texts()
    handle = page.get_by_role("button", name="Move panel 1")
    handle.focus()
    handle.press("Space")
    page.wait_for_timeout(300)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    page.keyboard.press("Space")
    expect(page.get_by_text("Panel moved.")).to_be_visible()
    expect(texts.first).to_have_text(before[1])
    page.reload()
    settle(page)
    expect(page.locator("main ol p[title]").first).to_have_text(before[1])


def write_a_balloon(page: Page) -> None:
    page.get_by_role("button", name="Select panel 1").click()
    page.get_by_role("button", name="Add a balloon").click()
    page.get_by_label("Text 1").fill("Look, the sea!")
    balloon = page.get_by_role("button", name=re.compile("^Balloon 1"))
    before = balloon.bounding_box()
    assert before
    balloon.press("ArrowDown")
    element = balloon.element_handle()
    page.wait_for_function("([each, y]) => each.getBoundingClientRect().top > y", arg=[element, before["y"]])
    page.wait_for_timeout(1500)


def export(page: Page, kind: str, to: Path) -> bytes:
    page.get_by_role("button", name="Export").click()
    with page.expect_download(timeout=PATIENCE_MS) as found:
        page.get_by_role("menuitem", name=kind).click()
    found.value.save_as(to)
    return to.read_bytes()


def import_again(chromium: Browser, url: str, tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "again.zip").write_bytes(archive)
    with opened(chromium, url) as page:
        page.locator("input[type=file]").set_input_files(tmp_path / "again.zip")
        expect(page.get_by_text("Imported.")).to_be_visible(timeout=DRAWN_MS)
        page.goto(f"{url}/studio/#/")
        expect(page.get_by_role("link", name=re.compile("Two of a kind"))).to_have_count(2)
