"""A repeated request gets the stored answer to the first one, also when its characters are gone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.access.limits import RequestId
from components.access.stored_answers import KEEP_S, AnswerStore, StoredAnswer, answer_folder
from components.database import open_database
from components.errors import KeyReusedError
from components.object_store import LocalObjectStore, StoreUnavailableError
from components.owners.erasure import erase_owner
from components.owners.export import export_owner
from deploy.generator.service import GenerationService
from tests.deploy.test_charges import PICTURE, SMALL, Service, serving
from tests.deploy.test_serving_api import photograph

KEY = {"Idempotency-Key": "one"}
MENTION = PICTURE | {"prompt": "@Rob waves"}


def create(service: Service) -> str:
    form = {"name": "Rob", "description": "a red robot", "target_word": "robot"}
    sent = service.client.post("/v1/characters", data=form, files={"pictures": ("rob.png", photograph())})
    assert sent.status_code == 201, sent.text
    return str(sent.json()["id"])


def redraw(service: Service) -> httpx.Response:
    fields = {name: str(value) for name, value in MENTION.items()} | {"redraw_strength": "1"}
    files = {"image": ("rob.png", io.BytesIO(photograph()))}
    return service.client.post("/v1/images/edits", data=fields, files=files, headers=KEY)


def post(path: str, **fields: Any) -> Any:
    return lambda service: service.client.post(path, json=MENTION | fields, headers=KEY)


REQUESTS = {
    "generation": (post("/v1/images/generations"), 200),
    "stream": (post("/v1/images/generations", stream=True), 200),
    "candidates": (post("/v1/characters/candidates"), 201),
    "redraw": (redraw, 200),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_repeated_request_is_answered_when_its_character_is_gone(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, status = REQUESTS[name]
    with serving(tmp_path) as service:
        character = create(service)
        first = send(service)
        assert first.status_code == status, first.text
        spent = service.spent()
        assert spent > 0 and service.client.delete(f"/v1/characters/{character}").status_code == 200
        monkeypatch.delattr(GenerationService, "generate")
        monkeypatch.delattr(GenerationService, "stream")
        again = send(service)
        assert again.status_code == status and again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.content == first.content if name != "stream" else again.content in first.content
        assert (b"image_generation.completed" in again.content) == (name == "stream")
        assert service.spent() == spent
        other = service.client.post("/v1/images/generations", json=MENTION | {"n": 2}, headers=KEY)
        assert other.status_code == 409


def test_a_store_that_is_away_keeps_no_request_from_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(AnswerStore, "find", away)
    monkeypatch.setattr(AnswerStore, "put", away)
    with serving(tmp_path) as service:
        first, again = service.draw("one"), service.draw("one")
        assert first.status_code == again.status_code == 200
        assert first.json()["data"] == again.json()["data"] and service.spent() == SMALL


def test_answers_belong_to_their_owner_and_expire(tmp_path: Path) -> None:
    now = [1e9]
    store = AnswerStore(LocalObjectStore(tmp_path), lambda: now[0])
    request, answer = RequestId("one", "digest"), StoredAnswer(b"{}\n{}", "application/json", 201)
    store.put("ada", request, answer)
    assert store.find("ada", request) == answer
    assert store.find("bob", request) is None and store.find("ada", RequestId("two", "digest")) is None
    with pytest.raises(KeyReusedError):
        store.find("ada", RequestId("one", "another"))
    now[0] += KEEP_S
    assert store.find("ada", request) is None and store.find("ada", RequestId("one", "another")) is None


def test_expired_answers_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjectStore(tmp_path)
    store = AnswerStore(objects)
    store.put("ada", RequestId("one", "digest"), StoredAnswer(b"{}", "application/json"))
    objects.write("char-1/picture", b"another kind")
    assert store.sweep() == 0
    monkeypatch.setattr(LocalObjectStore, "age_s", lambda *_: KEEP_S)
    assert store.sweep() == 1 and objects.names() == ["char-1/picture"]


def test_an_owners_answers_are_exported_and_erased(tmp_path: Path) -> None:
    engine = open_database(tmp_path, None)
    files, results = LocalObjectStore(tmp_path / "files"), LocalObjectStore(tmp_path / "jobs")
    store, request = AnswerStore(files), RequestId("one", "digest")
    for owner in ("ada", "bob"):
        store.put(owner, request, StoredAnswer(json.dumps(owner).encode(), "application/json"))
    assert answer_folder("ada").encode() in b"".join(export_owner(engine, files, results, "ada"))
    assert erase_owner(engine, files, results, "ada", 0).files == 1
    assert store.find("ada", request) is None and store.find("bob", request) is not None
