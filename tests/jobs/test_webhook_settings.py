"""Where webhooks of an owner may go, and their secrets; and the commands that change both."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from components.database import open_database
from components.errors import ConfigError
from components.jobs.signing import read_secrets
from components.jobs.webhook_settings import WebhookSettings, WebhookSettingsStore
from tests.fixtures.job_stores import JobStores, database, stores
from workflows.cli import app

__all__ = ["database", "stores"]
RECEIVER = "https://hooks.example"


@pytest.fixture
def settings(tmp_path: Path, database: str) -> WebhookSettingsStore:
    return WebhookSettingsStore(open_database(tmp_path, database))


def test_an_owner_has_origins_and_a_secret_of_its_own(settings: WebhookSettingsStore) -> None:
    secret = settings.allow("ada", [RECEIVER, "https://Other.example:8443"])
    assert secret is not None and len(read_secrets(secret)[0]) == 32
    assert settings.allow("ada", [RECEIVER]) is None, "the secret stays"
    assert settings.get("ada") == WebhookSettings("ada", (RECEIVER, "https://other.example:8443"), (secret,))
    assert settings.get("bob") == WebhookSettings("bob")
    settings.allow("bob", [RECEIVER])
    settings.disallow("ada", [RECEIVER])
    assert [(one.owner, one.origins) for one in settings.all()] == [
        ("ada", ("https://other.example:8443",)),
        ("bob", (RECEIVER,)),
    ]
    for wrong in ("ftp://a", "https://a/path", "https://user@a", "a", ""):
        with pytest.raises(ConfigError, match="origin"):
            settings.allow("ada", [wrong])


def test_two_secrets_sign_while_one_is_replaced(settings: WebhookSettingsStore) -> None:
    first = settings.allow("ada", [RECEIVER])
    second = settings.rotate("ada")
    assert settings.get("ada").secrets == (second, first)
    with pytest.raises(ConfigError, match="retire"):
        settings.rotate("ada")
    settings.retire("ada")
    assert settings.get("ada").secrets == (second,)
    for change in (settings.rotate, settings.retire, lambda owner: settings.disallow(owner, [RECEIVER])):
        with pytest.raises(ConfigError, match="has no webhook settings"):
            change("bob")


def test_webhooks_to_busy_origins_wait_and_others_do_not(stores: JobStores) -> None:
    dead = [stores.submit(webhook=f"https://Dead.example/{number}") for number in range(2)]
    alive = stores.submit(webhook="https://alive.example/hook")
    old = stores.submit(webhook="https://old.example/hook")
    with stores.engine.begin() as connection:  # as an earlier release stored it
        connection.execute(sa.text("UPDATE jobs SET webhook_origin = NULL WHERE id = :id"), {"id": old})
    while lease := stores.queue.claim():
        stores.queue.finish(lease, b"pictures")
    first = stores.webhook_queue.claim()
    assert first is not None and (first.job.id, first.origin) == (dead[0], "https://dead.example")
    others = [stores.webhook_queue.claim([first.origin]) for _ in range(3)]
    assert [message and message.job.id for message in others] == [alive, old, None]
    last = stores.webhook_queue.claim()
    assert last is not None and last.job.id == dead[1]


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["webhook", *arguments, "--set", "serving.store=kept"], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    secret = run("allow", RECEIVER, "--owner", "ada").strip()
    store = WebhookSettingsStore(open_database(tmp_path / "kept", None))
    assert store.get("ada") == WebhookSettings("ada", (RECEIVER,), (secret,))
    assert run("allow", "https://other.example", "--owner", "ada") == ""
    newer = run("rotate", "--owner", "ada").strip()
    listed = run("list")
    assert "ada" in listed and RECEIVER in listed and secret not in listed and newer not in listed
    run("retire", "--owner", "ada")
    run("disallow", RECEIVER, "--owner", "ada")
    assert store.get("ada") == WebhookSettings("ada", ("https://other.example",), (newer,))
    wrong = CliRunner().invoke(app, ["webhook", "allow", "nowhere", "--owner", "ada"])
    assert wrong.exit_code == 2 and "nowhere" in wrong.output
