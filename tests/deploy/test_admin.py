"""The admin API: jobs, keys, usage, export and erasure of any owner, for keys with the scope ``admin`` only."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.client import Client, ServiceError
from components.config import Config, load_config
from components.database import open_database
from components.owners.records import owner_records, rows
from deploy.administration.service import AdministrationService
from tests.deploy.test_serving_api import photograph
from tests.fakes.service_process import QUICK, running
from workflows.cli import app

TENANT = [Scope(scope) for scope in Scope if scope not in (Scope.ADMIN, Scope.METRICS)]


@dataclass
class Service:
    """A running service with two tenants and an operator."""

    config: Config
    url: str
    engine: sa.Engine
    keys: dict[str, str]

    def client(self, owner: str) -> Client:
        return Client(self.url, self.keys[owner])

    def rows(self, owner: str) -> dict[str, int]:
        return {kind.name: n for kind in owner_records(owner) if (n := len(list(rows(self.engine, kind))))}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    on = ["serving.access.keys=required", "serving.access.refresh_s=0.05"]
    config = load_config("tiny", [f"serving.store={tmp_path}/kept", *on, *QUICK])
    engine = open_database(config.serving.store, None)
    store = KeyStore(engine)
    limits = KeyLimits(requests_per_minute=500, pixel_steps_per_day=10**9)
    keys = {owner: store.create(owner, "x", TENANT, limits)[1] for owner in ("ada", "bob")}
    keys["ops"] = store.create("ops", "x", [Scope.ADMIN])[1]
    with running(config) as url:
        yield Service(config, url, engine, keys)


def fill(client: Client) -> tuple[str, str]:
    """A character, a story with an image, an image in the history, and a job; the ids of character and job."""
    rob = client.characters.create("Zebra", photograph(), target_word="robot")
    story = client.stories.create("Zebra tale", script="a robot at home")
    client.stories.draw(story.id)
    body = {"prompt": "a robot", "size": "64x64", "steps": 2}
    http = client._transport._http
    assert (
        http.post(
            "/v1/images/generations", json=body, headers=client._transport._headers | {"X-Keep": "history"}
        ).status_code
        == 200
    )
    job = client.jobs.submit("a robot", [rob], size="64x64", steps=2)
    client.jobs.wait(job.id, look_every_s=0.05)
    assert list(client.stories.wait(story.id, timeout_s=30, look_every_s=0.05))
    return rob.id, job.id


def test_only_the_scope_opens_it(service: Service) -> None:
    for path in (
        "/v1/admin/jobs",
        "/v1/admin/keys",
        "/v1/admin/usage",
        "/v1/admin/audit",
        "/v1/admin/export?owner=bob",
    ):
        answer = httpx.get(service.url + path, headers={"Authorization": f"Bearer {service.keys['ada']}"})
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "missing_scope", path
    assert "admin" not in CliRunner().invoke(app, ["key", "create", "--help"]).output.split("[default: ")[-1]


def test_without_keys_nobody_is_an_operator(tmp_path: Path) -> None:
    with running(load_config("tiny", [f"serving.store={tmp_path}/kept", *QUICK])) as url:
        answer = httpx.get(f"{url}/v1/admin/jobs")
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "keys_required"


def test_jobs_of_any_owner(service: Service) -> None:
    ada, bob, ops = (service.client(owner) for owner in ("ada", "bob", "ops"))
    first = ada.jobs.submit("a zebra robot", size="64x64", steps=1)
    slow = bob.jobs.submit("a sluggish robot", size="64x64", steps=100)
    ada.jobs.wait(first.id, look_every_s=0.05)
    assert [(job["id"], job["owner"]) for job in ops.admin.jobs()] == [(slow.id, "bob"), (first.id, "ada")]
    assert [job["id"] for job in ops.admin.jobs(owner="ada", status="done")] == [first.id]
    seen = ops.admin.job(first.id)
    assert seen["status"] == "done" and seen["owner"] == "ada" and "result" not in seen and "zebra" not in str(seen)
    ops.admin.cancel(slow.id)
    with pytest.raises(ServiceError, match="cancelled"):
        bob.jobs.wait(slow.id, timeout_s=20, look_every_s=0.05)
    with pytest.raises(ServiceError) as missing:
        ops.admin.job("job-" + "0" * 28)
    assert missing.value.code == "job_not_found"
    entries = [(each["owner"], each["action"], each["resource"]) for each in ops.admin.audit(owner="ops")]
    assert ("ops", "DELETE /v1/admin/jobs/{identifier}", slow.id) in entries


def test_keys_are_changed_and_revoked(service: Service) -> None:
    ops = service.client("ops")
    (key,) = ops.admin.keys("ada")
    assert key["requests_per_minute"] == 500 and "digest" not in key
    changed = ops.admin.change_key(key["id"], requests_per_minute=None, scopes=["jobs:read"])
    assert changed["requests_per_minute"] is None and changed["pixel_steps_per_day"] == 10**9
    time.sleep(0.1)
    with pytest.raises(ServiceError) as refused:
        service.client("ada").generate("a robot")
    assert refused.value.code == "missing_scope"
    with pytest.raises(ServiceError) as unknown:
        ops.admin.change_key("0" * 16, scopes=["images"])
    assert (unknown.value.status, unknown.value.code) == (404, "key_not_found")
    assert ops.admin.revoke_key(key["id"])["revoked"]
    time.sleep(0.1)
    with pytest.raises(ServiceError) as gone:
        service.client("ada").usage()
    assert gone.value.status == 401


def test_an_owner_is_exported_and_erased(service: Service, tmp_path: Path) -> None:
    ada, bob, ops = (service.client(owner) for owner in ("ada", "bob", "ops"))
    (character, job), _ = fill(ada), fill(bob)
    list(ops.admin.audit(owner="bob"))  # what the gateway has collected is written first
    ops.admin.usage(owner="bob")
    before = service.rows("bob")
    archive = zipfile.ZipFile(ops.admin.export("ada", tmp_path / "ada.zip"))
    assert archive.testzip() is None
    names = archive.namelist()
    text = {name: archive.read(name).decode() for name in names if name.endswith(".jsonl")}
    assert json.loads(text["characters.jsonl"])["name"] == "Zebra" and "Zebra tale" in text["stories.jsonl"]
    counts = {name: len(text[f"{name}.jsonl"].splitlines()) for name in ("takes", "generations", "panels", "usage")}
    assert counts == dict.fromkeys(counts, 1) and len(text["audit.jsonl"].splitlines()) >= 4
    assert "digest" not in text["keys.jsonl"] and service.keys["ada"].rpartition("-")[2] not in str(text)
    pictures = [name for name in names if name.startswith(f"files/{character}/picture-")]
    assert len(pictures) == 1 and archive.read(pictures[0])[:4] == b"\x89PNG"
    assert [name for name in names if "/take-" in name] and [name for name in names if name.startswith("files/gen-")]
    assert json.loads(archive.read(f"results/{job}.json"))["data"] and not any("/tokens-" in name for name in names)

    assert bob_is_refused(service)
    receipt = ops.admin.erase("ada")
    assert receipt["ids"]["characters"] == [character] and job in receipt["ids"]["jobs"]
    assert receipt["rows"]["takes"] == receipt["rows"]["keys"] == 1 and receipt["files"] >= 5
    assert service.rows("ada").keys() == {"audit"} and receipt["kept"]["audit"] == service.rows("ada")["audit"]
    place = Path(str(service.config.serving.store))
    left = [str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()]
    erased = [each for kind in receipt["ids"].values() for each in kind]
    assert not [name for name in left if any(each in name for each in erased)]
    assert before.items() <= service.rows("bob").items() and list(bob.characters.list())
    again = ops.admin.erase("ada")
    assert sum(again["rows"].values()) == 0 and again["files"] == 0
    with pytest.raises(ServiceError) as gone:
        ada.usage()
    assert gone.value.status == 401
    assert next(e["resource"] for e in ops.admin.audit(owner="ops") if "erase" in e["action"]) == "ada"


def bob_is_refused(service: Service) -> bool:
    """Nothing is erased without the confirmation."""
    headers = {"Authorization": f"Bearer {service.keys['ops']}"}
    body = {"owner": "bob", "confirm": "ada"}
    answer = httpx.post(f"{service.url}/v1/admin/erase", json=body, headers=headers)
    return answer.status_code == 400 and answer.json()["error"]["code"] == "not_confirmed"


def test_a_large_export_holds_nobody_up(service: Service) -> None:
    """Pieces are bounded, and the event loop goes on between them."""
    place = Path(str(service.config.serving.store))
    character = service.client("ada").characters.create("Big", photograph(), target_word="robot").id
    for number in range(40):
        (place / character / f"extra-{number}.png").write_bytes(bytes(4_000_000))
    part = AdministrationService(service.config)

    async def export() -> tuple[int, int, float]:
        longest, size, most, stop = 0.0, 0, 0, asyncio.Event()

        async def beat() -> float:
            longest = 0.0
            while not stop.is_set():
                before = time.thread_time()  # of this thread: other processes do not count
                await asyncio.sleep(0.005)
                longest = max(longest, time.thread_time() - before)
            return longest

        beating = asyncio.create_task(beat())
        async for piece in part.export("ada"):
            size, most = size + len(piece), max(most, len(piece))
        stop.set()
        longest = await beating
        return size, most, longest

    size, most, longest = asyncio.run(export())
    assert size > 160_000_000 and most < 5_000_000 and longest < 0.5


def test_commands(service: Service, tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        env = {"REALCUSTOM_API_KEY": service.keys["ops"], "REALCUSTOM_URL": service.url, "COLUMNS": "200"}
        result = CliRunner().invoke(app, ["admin", *words], env=env)
        assert result.exit_code == code, result.output
        return result.output

    ada = service.client("ada")
    job = ada.jobs.submit("a robot", size="64x64", steps=2)
    ada.jobs.wait(job.id, look_every_s=0.05)
    (key,) = service.client("ops").admin.keys("ada")
    assert job.id in run("jobs", "--owner", "ada", "--status", "done")
    assert json.loads(run("job", job.id))["owner"] == "ada"
    assert "500" in run("keys", "--owner", "ada")
    assert json.loads(run("key", key["id"], "--pixel-steps-per-day", "0"))["pixel_steps_per_day"] is None
    assert "--revoke alone" in run("key", key["id"], code=2)
    assert "ada" in run("usage", "--days", "1") and "8,192" not in run("usage")
    assert json.loads(run("audit", "--owner", "ada", "--limit", "1"))["action"] == "POST /v1/jobs"
    assert zipfile.is_zipfile(io.BytesIO(_exported(run, tmp_path)))
    assert json.loads(run("cancel", job.id))["deleted"] is True
    assert "confirm" in run("erase", "--owner", "ada", "--confirm", "bob", code=2)
    told = run("erase", "--owner", "ada", "--confirm", "ada", "--receipt", str(tmp_path / "r.json"))
    assert json.loads(told) == json.loads((tmp_path / "r.json").read_text())


def _exported(run: Any, folder: Path) -> bytes:
    run("export", "--owner", "ada", "--output", str(folder / "ada.zip"))
    return (folder / "ada.zip").read_bytes()
