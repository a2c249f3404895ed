"""Scripts of web pages: only those of listed origins may read answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.testclient import TestClient

from components.config import load_config
from components.errors import ConfigError
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from tests.fixtures.error_envelope import error

LISTED, STRANGE = "https://studio.example", "https://evil.example"
NOBODY = cast(Any, None)


def client(folder: Path, *origins: str, keys: str = "required") -> TestClient:
    listed = ", ".join(f'"{origin}"' for origin in origins)
    settings = [f"serving.store={folder}/store", f"serving.access.keys={keys}", f"serving.allowed_origins=[{listed}]"]
    app = create_app(load_config("tiny", settings), ModelResponse(id="m", version="1"), NOBODY, NOBODY, NOBODY, NOBODY)
    return TestClient(app, raise_server_exceptions=False)


def preflight(tested: TestClient, origin: str, method: str = "POST", **headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method} | headers
    return tested.options("/v1/images/generations", headers=asked)


def told(answer: httpx.Response) -> dict[str, str]:
    """The headers that speak to browsers."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def test_a_listed_origin_may_send_keys_and_read_answers(tmp_path: Path) -> None:
    tested = client(tmp_path, LISTED, "http://localhost:5173")
    asked = {"Access-Control-Request-Headers": "authorization, content-type, idempotency-key, x-stainless-lang"}
    for origin in (LISTED, "http://localhost:5173"):
        answer = preflight(tested, origin, **asked)
        assert answer.status_code == 200, "browsers ask without a key"
        assert answer.headers["access-control-allow-origin"] == origin
        allowed = answer.headers["access-control-allow-headers"]
        assert {"authorization", "idempotency-key"} <= set(re.split(r",\s*", allowed.lower()))
        assert "origin" in answer.headers["vary"].lower(), "caches keep origins apart"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        assert preflight(tested, LISTED, method).status_code == 200


def test_errors_can_be_read_too(tmp_path: Path) -> None:
    refused = client(tmp_path, LISTED).get("/v1/models", headers={"Origin": LISTED})
    assert refused.status_code == 401 and error(refused)["code"] == "invalid_api_key"
    broken = client(tmp_path, LISTED, keys="off").get("/v1/jobs", headers={"Origin": LISTED})
    assert broken.status_code == 500, "there are no jobs here"
    for answer in (refused, broken):
        assert told(answer) == {"access-control-allow-origin": LISTED, "access-control-expose-headers": "*"}


@pytest.mark.parametrize(
    "origin",
    [STRANGE, "http://studio.example", "https://studio.example:8443", "https://studio.example.evil.example", "null"],
)
def test_every_other_origin_is_a_stranger(tmp_path: Path, origin: str) -> None:
    tested = client(tmp_path, LISTED)
    asked = preflight(tested, origin)
    assert asked.status_code == 400 and "access-control-allow-origin" not in told(asked)
    assert "access-control-allow-origin" not in told(tested.get("/healthz", headers={"Origin": origin}))


def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    tested = client(tmp_path)
    assert preflight(tested, LISTED).status_code == 401
    for answer in (preflight(tested, LISTED), tested.get("/healthz", headers={"Origin": LISTED})):
        assert told(answer) == {}


def test_cookies_are_never_allowed(tmp_path: Path) -> None:
    tested = client(tmp_path, LISTED)
    answers = (preflight(tested, LISTED), tested.get("/healthz", headers={"Origin": LISTED}))
    assert not any("access-control-allow-credentials" in answer.headers for answer in answers)
    assert not any(answer.headers["access-control-allow-origin"] == "*" for answer in answers)


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "studio.example", "https://*.example", "https://Studio.example", "https://studio.example/", "ws://a"],
)
def test_only_exact_origins_can_be_listed(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"serving\.allowed_origins"):
        load_config("tiny", [f'serving.allowed_origins=["{origin}"]'])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://studio.example:443", LISTED),
        ("http://[::1]:80", "http://[::1]"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://studio.example:80", "https://studio.example:80"),
    ],
)
def test_origins_are_as_browsers_send_them(given: str, sent: str) -> None:
    assert load_config("tiny", [f'serving.allowed_origins=["{given}"]']).serving.allowed_origins == (sent,)
