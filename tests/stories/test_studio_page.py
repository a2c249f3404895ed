"""The studio's page: what it is served with, and that nothing else of the disk is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from components.config import load_config
from deploy.api.app import create_app
from deploy.api.error_responses import install_error_handlers
from deploy.api.schema import ModelResponse
from deploy.api.studio import studio_routes
from deploy.characters.service import CharacterService
from tests.fixtures.error_envelope import error


async def _nothing(_: Exception) -> None:
    return None


def serving(folder: Path) -> TestClient:
    app = FastAPI()
    install_error_handlers(app, _nothing)
    app.include_router(studio_routes(folder))
    return TestClient(app, follow_redirects=False)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "secret.txt").write_text("secret")
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html><title>Studio</title>")
    (built / "assets/index-1a2b3c.js").write_text("console.log(1);" * 100)
    yield serving(built)


def test_the_page_comes_with_a_strict_policy(page: TestClient) -> None:
    answer = page.get("/studio/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'" and policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    for own in ("/studio/stories/story-1", "/studio/settings"):
        assert page.get(own).text == answer.text, "the page's own addresses survive a reload"


def test_hashed_files_are_kept_and_packed(page: TestClient) -> None:
    answer = page.get("/studio/assets/index-1a2b3c.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["content-encoding"] == "gzip" and answer.text == "console.log(1);" * 100
    plain = page.get("/studio/assets/index-1a2b3c.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.text == answer.text
    same = page.get("/studio/assets/index-1a2b3c.js", headers={"If-None-Match": answer.headers["etag"]})
    assert same.status_code == 304


@pytest.mark.parametrize("path", ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "assets/../../secret.txt"])
def test_nothing_else_is_served(page: TestClient, path: str) -> None:
    answer = page.get(f"/studio/{path}")
    assert "secret" not in answer.text and answer.status_code == 404


def test_browsers_are_led_to_the_page(page: TestClient) -> None:
    answer = page.get("/", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 307 and answer.headers["location"] == "/studio/"
    assert page.get("/studio").headers["location"] == "/studio/"
    assert page.get("/", headers={"Accept": "application/json"}).status_code == 404


def test_without_a_build_the_service_says_so_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        page = serving(tmp_path / "dist")
    assert [record.message for record in caplog.records] == [
        "the studio's page is not built: run `make studio`; the service runs without it"
    ]
    answer = page.get("/studio/")
    assert answer.status_code == 404 and error(answer)["code"] == "studio_not_built"
    assert "make studio" in error(answer)["message"]


def test_the_page_needs_no_key_and_its_data_do(tmp_path: Path) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.access.keys=required"])
    nobody: None = None
    app = create_app(config, ModelResponse(id="m", version="1"), CharacterService(config), nobody, nobody, nobody)  # type: ignore[arg-type]
    client = TestClient(app, follow_redirects=False)
    assert client.get("/studio/").status_code in (200, 404)
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 307
    for path in ("/v1/stories", "/v1/characters", "/studioX", "/studio/../v1/characters"):
        assert client.get(path).status_code == 401, path
