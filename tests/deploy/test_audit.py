"""The audit log: who did what, from requests and from key commands, and when it expires."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from components.access.audit import AuditEntry, AuditLog
from components.access.key import ApiKey, Scope
from components.access.store import KeyStore
from components.config import Config, load_config
from components.database import open_database
from tests.deploy.test_serving_api import photograph
from tests.fakes.service_process import QUICK, running
from workflows.cli import app


@pytest.fixture
def config(tmp_path: Path) -> Config:
    keys = ["serving.access.keys=required", "serving.access.refresh_s=0.01"]
    return load_config("tiny", [f"serving.store={tmp_path}/kept", *keys, *QUICK])


@pytest.fixture
def key(config: Config) -> tuple[ApiKey, str]:
    scopes = [Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.CHARACTERS_READ, Scope.CHARACTERS_WRITE]
    return KeyStore(open_database(config.serving.store, None)).create("ada", "x", scopes)


def test_changes_and_refusals_are_recorded_and_reads_are_not(config: Config, key: tuple[ApiKey, str]) -> None:
    log = AuditLog(open_database(config.serving.store, None))
    headers = {"Authorization": f"Bearer {key[1]}", "X-Request-Id": "r-1"}
    with running(config) as url, httpx.Client(base_url=url, headers=headers) as client:
        job = client.post("/v1/jobs", json={"prompt": "a zebra robot"}).json()["id"]
        named = {"name": "Zebra", "target_word": "robot"}
        sent = {"pictures": ("zebra.png", photograph())}
        character = client.post("/v1/characters", data=named, files=sent).json()["id"]
        client.get("/v1/jobs")
        client.patch(f"/v1/characters/{character}", json={"name": "Zebra two"})
        client.delete("/v1/characters/zebra zebra")
        client.post("/v1/images/generations", json={"prompt": "a zebra"})
        client.post("/v1/jobs", json={"prompt": "a robot"}, headers={"Authorization": "Bearer wrong"})
    entries = list(reversed(log.page()))
    assert [(entry.action, entry.resource, entry.outcome) for entry in entries] == [
        ("POST /v1/jobs", job, "202"),
        ("POST /v1/characters", character, "201"),
        ("PATCH /v1/characters/{identifier}", character, "200"),
        ("DELETE /v1/characters/{identifier}", "", "404"),
        ("POST refused", "", "403"),
    ]
    assert {(entry.owner, entry.key, entry.request) for entry in entries} == {("ada", key[0].id, "r-1")}
    assert "zebra" not in str(entries).lower()


def test_pages_and_expiry(config: Config) -> None:
    now = 400 * 86_400.0
    log = AuditLog(open_database(config.serving.store, None), clock=lambda: now)
    log.add([AuditEntry("ada", "k1", f"do {n}", at=now - n * 86_400, id=f"audit-{n:028x}") for n in range(5)])
    log.add([AuditEntry("bob", "k2", "do", at=now)])
    assert [entry.action for entry in log.page(2, owner="ada")] == ["do 4", "do 3"]
    assert [entry.action for entry in log.page(9, after=f"audit-{2:028x}", key="k1")] == ["do 1", "do 0"]
    assert log.expire(2.5) == 2 and len(log.page()) == 4


def test_key_commands_are_recorded(tmp_path: Path) -> None:
    at = ["--set", f"serving.store={tmp_path}"]
    runner = CliRunner()

    def run(*words: str, code: int = 0) -> str:
        result = runner.invoke(app, ["key", *words, *at])
        assert result.exit_code == code, result.output
        return result.output

    identifier = run("create", "--owner", "ada", "--name", "x", "--requests-per-minute", "5").split("-")[1]
    run("change", identifier, "--scopes", "images", "--requests-per-minute", "0", "--pixel-steps-per-day", "9")
    (key,) = KeyStore(open_database(tmp_path, None)).all()
    assert key.scopes == {Scope.IMAGES} and vars(key.limits) == {"requests_per_minute": None, "pixel_steps_per_day": 9}
    assert "--scopes" in run("change", identifier, code=2)
    assert "no key of this id" in run("change", "0" * 16, "--scopes", "images", code=2)
    run("revoke", identifier)
    entries = list(reversed(AuditLog(open_database(tmp_path, None)).page()))
    commands = ["realcustom key create", "realcustom key change", "realcustom key revoke"]
    assert [(entry.action, entry.resource) for entry in entries] == [(each, identifier) for each in commands]
