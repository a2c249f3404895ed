"""Every error state of the studio, brought about in the browser, by what the service or the connection answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.screens import settle

Known = dict[str, str]
Handler = Callable[[Route], None]
#: Where banners are.
BANNER = "[class*=_banner_]"
ALERT = "main [role=alert]"
FIELD_ERROR = "main [class*=InputWrapper-error]"


@dataclass(frozen=True)
class ErrorState:
    name: str
    path: str
    #: Pattern of the requests that are answered otherwise.
    pattern: str | re.Pattern[str]
    handler: Handler
    #: What shows that the studio is in this state.
    seen: str
    #: What is done there before it looks like this.
    act: Callable[[Page], None] | None = None
    offline: bool = False

    def show(self, page: Page, url: str, known: Known) -> None:
        page.route(self.pattern, self.handler)
        page.goto(f"{url}/studio/#{self.path.format(**known)}")
        page.reload(wait_until="commit")  # without what was loaded before
        if self.offline:
            settle(page)
            page.context.set_offline(True)
        if self.act is not None:
            self.act(page)
        expect(page.locator(self.seen).filter(visible=True).first).to_be_visible()
        page.wait_for_timeout(750)  # colours and pictures follow; what is waited for may never come

    def leave(self, page: Page) -> None:
        page.context.set_offline(False)
        page.unroute(self.pattern, self.handler)
        page.evaluate("() => sessionStorage.clear()")


def refuse(status: int, code: str, wait_s: int | None = None) -> Handler:
    error = {"message": f"refused: {code}", "type": "invalid_request_error", "param": None, "code": code}
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return lambda route: route.fulfill(status=status, headers=headers, json={"error": error})


def _lost(route: Route) -> None:
    route.abort("connectionrefused")


def _as_it_is(route: Route) -> None:
    route.continue_()


def _changed(**panel: Any) -> Handler:
    """The story, whose first panel is otherwise; readiness is refused."""

    def handle(route: Route) -> None:
        if "/readyz" in route.request.url:
            route.fulfill(status=503, json={"ready": False})
            return
        answer = route.fetch()
        story = answer.json()
        story["panels"][0] |= panel
        route.fulfill(response=answer, json=story)

    return handle


def _enter(key: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.locator("main input").fill(key)
        page.locator("main button[type=submit]").click()

    return act


def _stop_waiting(page: Page) -> None:
    page.locator(BANNER).locator("button").click()


def _ask_for_nothing(page: Page) -> None:
    settle(page)
    page.locator("main label").filter(has_text=re.compile("^(From a prompt|从提示词)$")).click()
    page.locator("main button[type=submit]").click()


_NO_KEY = refuse(401, "invalid_api_key")
_HISTORY = "**/v1/history*"
_STORY = "**/v1/stories/story-*"
_JOB = {"id": "job-1", "status": "queued", "step": 0, "total": 0, "left": 1}
_FAILED = {"message": "the generator has failed", "param": None, "code": "internal"}

ERROR_STATES = (
    ErrorState("no key", "/", "**/v1/**", _NO_KEY, "main input[type=password]"),
    ErrorState("no key's form", "/", "**/v1/**", _NO_KEY, FIELD_ERROR, _enter("sesame")),
    ErrorState("wrong key", "/", "**/v1/**", _NO_KEY, FIELD_ERROR, _enter("rc-0000")),
    ErrorState("no scope", "/history", _HISTORY, refuse(403, "insufficient_scope"), ALERT),
    ErrorState("overload", "/history", _HISTORY, refuse(503, "overloaded", 120), BANNER),
    ErrorState("overload, not waited for", "/history", _HISTORY, refuse(503, "overloaded", 120), ALERT, _stop_waiting),
    ErrorState("too many requests", "/history", _HISTORY, refuse(429, "rate_limit_exceeded", 30), BANNER),
    ErrorState("quota", "/history", _HISTORY, refuse(429, "insufficient_quota", 9000), ALERT),
    ErrorState("fault of the service", "/", "**/v1/stories?*", refuse(500, "internal"), ALERT),
    ErrorState("offline", "/cast", "**/v1/unused", _as_it_is, BANNER, offline=True),
    ErrorState("server gone", "/cast", re.compile("/(v1/|healthz|readyz)"), _lost, BANNER),
    ErrorState(
        "no such story", "/stories/{story}/board", _STORY, refuse(404, "story_not_found"), "main a, main button"
    ),
    ErrorState(
        "failed panel", "/stories/{story}/board", _STORY, _changed(error=_FAILED, dirty=True), "[data-state=failed]"
    ),
    ErrorState(
        "no generator",
        "/stories/{story}/board",
        re.compile("/(readyz|v1/stories/story-[0-9a-f]+)$"),
        _changed(job=_JOB),
        "main [role=note]",
    ),
    ErrorState("code not there", "/history", "**/assets/History-*.js", _lost, ALERT),
    ErrorState("field", "/cast/new", "**/v1/unused", _as_it_is, FIELD_ERROR, _ask_for_nothing),
)
