"""Stories for browsers: made and read through the service's HTTP interface."""

from __future__ import annotations

from typing import Any

import httpx
from playwright.sync_api import Page

Headers = dict[str, str] | None


def new_story(url: str, script: str = "a robot\na robot at sea", headers: Headers = None) -> str:
    answer = httpx.post(f"{url}/v1/stories", json={"title": "Rob", "script": script}, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def read_story(url: str, story: str, headers: Headers = None) -> dict[str, Any]:
    answer = httpx.get(f"{url}/v1/stories/{story}", headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until_saved(page: Page, url: str, story: str, prompt: str, headers: Headers = None) -> None:
    """Until the first panel has this prompt; the page goes on meanwhile."""
    for _ in range(150):
        if read_story(url, story, headers)["panels"][0]["prompt"] == prompt:
            return
        page.wait_for_timeout(200)
    raise AssertionError("it was not saved")


def check_takes(url: str, story: str, panels: int, headers: Headers = None) -> None:
    """Each panel was drawn once, and nothing else was."""
    found = read_story(url, story, headers)["panels"]
    assert [len(panel["takes"]) for panel in found] == [1] * panels
    assert [panel["job"] for panel in found] == [None] * panels
    query = {"story": story, "limit": "100"}
    drawn = httpx.get(f"{url}/v1/history", params=query, headers=headers, timeout=60).raise_for_status().json()
    assert len(drawn["data"]) == panels
