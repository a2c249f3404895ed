"""Parts of the service that go away while a story is drawn: the studio says so and goes on by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from components.rehearsal.head_node import free_port
from deploy.characters.service import CharacterService
from tests.browser.screens import opened
from tests.browser.service import configured
from tests.browser.stories import check_takes, new_story, read_story, until_saved
from tests.browser.test_accessibility import violations
from tests.browser.test_journey import DRAWN_MS, drawing
from tests.fakes.forked_services import ForkedServices
from tests.fakes.interrupted_generator import InterruptedGenerator
from tests.fakes.service_process import painter, running

#: Three panels, drawn one after the other: two take three seconds, one half of one.
SCRIPT = "a sluggish robot\na sluggish robot at sea\na slow robot at night"
ONE_BY_ONE = ["sampling.steps=6", "serving.jobs.concurrency=1"]
GONE = "A part of the service that drawing needs is not there at the moment."
LOST = "No connection to the service."


def done(page: Page) -> Locator:
    return page.locator("main ol [data-state=done]")


def until_a_step(page: Page) -> None:
    expect(page.get_by_text(re.compile(r"Step [1-6] of 6")).first).to_be_visible()


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
def test_a_generator_that_is_gone_is_waited_for(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    if not seconds:
        monkeypatch.setattr("components.jobs.queue._LONGEST_DELAY_S", 1.0)
    config = configured(tmp_path / "store", *ONE_BY_ONE)
    generator = InterruptedGenerator(painter(config, CharacterService(config)))
    with running(config, generator) as url:
        story = new_story(url, SCRIPT)
        with opened(chromium, url, f"/stories/{story}/board") as page:
            page.get_by_role("button", name="Draw 3 changed panels").click()
            until_a_step(page)
            generator.there = False
            expect(page.get_by_text(GONE)).to_be_visible()
            assert not violations(page)
            before = generator.finished
            assert before < 3
            page.get_by_role("link", name="Script", exact=True).click()
            page.get_by_label("Panel 1", exact=True).fill("a robot in the snow")
            expect(page.get_by_text(GONE)).to_be_visible()
            until_saved(page, url, story, "a robot in the snow")
            page.get_by_role("link", name="Board", exact=True).click()
            expect(page.locator("main ol [data-state=queued]").first).to_be_visible()
            page.wait_for_timeout(seconds * 1000)
            assert generator.finished == before
            generator.there = True
            expect(done(page)).to_have_count(2, timeout=DRAWN_MS)
            expect(page.locator("main ol [data-state=changed]")).to_have_count(1)
            expect(page.get_by_text(GONE)).to_have_count(0)
        check_takes(url, story, 3)
        assert generator.finished == 3, "no picture is drawn twice"


def test_a_service_that_is_killed_goes_on_where_it_was(chromium: Browser, tmp_path: Path) -> None:
    # A job is taken over when the lease of the one that was killed has expired.
    settings = [f"serving.port={free_port()}", "serving.jobs.lease_s=3", *ONE_BY_ONE]
    with ForkedServices() as services:
        url, service = services.start(str(tmp_path / "store"), *settings)
        story = new_story(url, SCRIPT)
        with opened(chromium, url, f"/stories/{story}/board") as page:
            page.get_by_role("button", name="Draw 3 changed panels").click()
            until_a_step(page)
            service.kill()
            expect(page.get_by_text(LOST)).to_be_visible()
            assert not violations(page)
            page.get_by_label("Title of the story").fill("Rob again")
            page.get_by_label("Title of the story").press("Enter")
            expect(page.locator("main ol li")).to_have_count(3)
            assert done(page).count() < 3
            assert services.start(str(tmp_path / "store"), *settings)[0] == url
            expect(page.get_by_text(LOST)).to_have_count(0)
            until_a_step(page)
            expect(done(page)).to_have_count(3)
            expect(page.get_by_role("button", name="Everything is drawn")).to_be_visible()
        check_takes(url, story, 3)
        assert read_story(url, story)["title"] == "Rob again"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that draws one picture at a time and lets one wait."""
    limits = ["max_replicas=1", "max_ongoing_requests=1", "max_queued_requests=1"]
    config = configured(tmp_path_factory.mktemp("narrow"), "sampling.steps=3", *(f"serving.{each}" for each in limits))
    with running(config) as url:
        yield url


def test_an_overloaded_service_is_waited_for(chromium: Browser, narrow: str, tmp_path: Path) -> None:
    def generate() -> int:
        body = {"prompt": "a sluggish robot"}
        return httpx.post(f"{narrow}/v1/images/generations", json=body, timeout=60).status_code

    with opened(chromium, narrow, "/picture") as page, ThreadPoolExecutor(2) as others:
        page.locator("input[type=file]").set_input_files(drawing(tmp_path))
        page.get_by_label("What should be in the picture?").fill("a robot on the beach")
        busy = [others.submit(generate) for _ in range(2)]
        page.wait_for_timeout(1000)  # one of them is drawn for three seconds, and the other waits
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(page.get_by_text("The service is busy. Going on in")).to_be_visible()
        expect(page.get_by_role("img", name="a robot on the beach")).to_be_visible()
        expect(page.get_by_text("The service is busy. Going on in")).to_have_count(0)
        assert [each.result() for each in busy] == [200, 200]
