"""Every screen of the studio, by the names of its screenshots, and how a browser comes to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.browser.needs import CHROMIUM, FLAGS

Language = Literal["en", "zh"]
Theme = Literal["light", "dark"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
THEMES: tuple[Theme, ...] = ("light", "dark")
#: Of the window, in pixels: a phone's, and a desk's.
WIDTHS = (360, 1440)
#: Milliseconds; a busy machine takes its time.
PATIENCE_MS = 30_000


@contextmanager
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield found
        finally:
            found.close()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    path: str = "/",
    *,
    language: Language = "en",
    theme: Theme = "light",
    width: int = 1440,
    key: str = "",
) -> Iterator[Page]:
    """A page of a person of their own, at ``path`` of the studio. An error that the page throws fails."""
    context = browser.new_context(
        viewport={"width": width, "height": 900 if width > 720 else 740}, reduced_motion="reduce", accept_downloads=True
    )
    context.set_default_timeout(PATIENCE_MS)
    kept = {"realcustom.language": language, "mantine-color-scheme-value": theme}
    context.add_init_script(
        f"for (const [item, value] of Object.entries({json.dumps(kept)}))"
        " if (!localStorage.getItem(item)) localStorage.setItem(item, value);"
    )
    if key:
        context.add_init_script(f"sessionStorage.setItem('realcustom.key', {json.dumps(key)})")
    page = context.new_page()
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.on("console", lambda said: thrown.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(f"{url}/studio/#{path}")
    settle(page)
    try:
        yield page
        assert not thrown, thrown
    finally:
        context.close()


#: Nothing has been loading for half a second: pictures that have just come into view begin to load a moment later.
_CALM = """() => {
    const loads = document.querySelector('[class*=_waiting_], [class*=_loading_], [data-loading=true]');
    const calm = !loads && [...document.images].every((each) => each.complete);
    window.calmSince = calm ? window.calmSince ?? performance.now() : undefined;
    return performance.now() - window.calmSince > 500;
}"""


def settle(page: Page) -> None:
    """Until nothing loads and all pictures in view are there."""
    page.wait_for_timeout(250)  # the route follows the address in the next render
    page.wait_for_selector("main h1, main [role=alert]")
    page.evaluate("() => { window.calmSince = undefined }")
    page.wait_for_function(_CALM)


@dataclass(frozen=True)
class Screen:
    name: str
    #: ``{story}``, ``{panel}`` and ``{character}`` stand for those of the example.
    path: str
    #: What is pressed there before it looks like this, by its words in each language.
    pressed: tuple[str, ...] = ()
    #: It lies over another screen, which may be longer than the window.
    dialog: bool = False
    #: The service refuses the key; the page shows no other screen afterwards.
    refused: bool = False

    def show(self, page: Page, url: str, known: dict[str, str]) -> None:
        before, here = page.url, f"{url}/studio/#{self.path.format(**known)}"
        if self.refused:
            page.route("**/v1/**", _refuse_key)
        page.goto(here)
        if self.refused or here == before:
            page.reload()  # what was opened there is closed again
        settle(page)
        if self.pressed:
            words = re.compile(f"^({'|'.join(self.pressed)})$")
            page.locator("button, label").filter(has_text=words, visible=True).first.click()
            settle(page)


def _refuse_key(route: Route) -> None:
    error = {"message": "a key is needed", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    route.fulfill(status=401, json={"error": error})


SCREENS = (
    Screen("stories", "/"),
    Screen("new-story", "/", ("New story", "新建故事"), dialog=True),
    Screen("cast", "/cast"),
    Screen("new-character", "/cast/new"),
    Screen("candidates", "/cast/new", ("From a prompt", "从提示词")),
    Screen("character", "/cast/{character}"),
    Screen("cut-out", "/cast/{character}", ("Correct the cut-out", "修正抠图"), dialog=True),
    Screen("script", "/stories/{story}/script"),
    Screen("board", "/stories/{story}/board"),
    Screen("panel", "/stories/{story}/board/{panel}", dialog=True),
    Screen("redraw", "/stories/{story}/board/{panel}", ("Redraw a part", "局部重绘"), dialog=True),
    Screen("takes", "/stories/{story}/board/{panel}", ("Compare takes", "比较版本"), dialog=True),
    Screen("pages", "/stories/{story}/pages"),
    Screen("one-picture", "/picture"),
    Screen("history", "/history"),
    Screen("settings", "/settings"),
    Screen("key", "/", refused=True),
)


def make_example(page: Page) -> dict[str, str]:
    """Press the button that makes the example story, wait until it is drawn, and draw its last panel once more."""
    page.locator("main button").filter(has_text="example").click()
    page.wait_for_url("**/board")
    story = page.url.split("/stories/")[1].split("/")[0]
    page.wait_for_selector("main ol li")
    page.wait_for_function("() => document.querySelectorAll('main ol [data-state=done]').length === 4")
    settle(page)
    known = known_of(page, story)
    page.get_by_role("button", name="Draw again: Panel 4").click()
    expect(page.get_by_text("2 takes")).to_be_visible()
    return known


def known_of(page: Page, story: str) -> dict[str, str]:
    """Ids of a story, its last panel and a character, as paths need them."""
    read: Any = page.evaluate(
        """async (story) => [await (await fetch(`/v1/stories/${story}`)).json(),
            await (await fetch('/v1/characters')).json()]""",
        story,
    )
    return {"story": story, "panel": read[0]["panels"][-1]["id"], "character": read[1]["data"][0]["id"]}
