"""The history: what was drawn is found again, by its owner alone, until it is deleted or its time is over."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from components.config import Config, StoriesConfig, load_config
from components.database import open_database
from components.history.generation import GenerationNotFoundError, NewGeneration
from components.history.store import HistoryStore
from components.object_store import open_object_store
from components.stories.store import StoryStore
from components.stories.story import StoryLimitError
from tests.fakes.service_process import QUICK, running
from tests.fixtures.error_envelope import error
from tests.fixtures.job_stores import Clock, database
from tests.stories.conftest import character, create, draw, drawn, picture

__all__ = ["database"]

KEEP = {"X-Keep": "history"}


def generate(client: httpx.Client, prompt: str = "a robot", **fields: Any) -> httpx.Response:
    answer = client.post("/v1/images/generations", json={"prompt": prompt} | fields, headers=KEEP)
    assert answer.status_code == 200, answer.text
    return answer


def history(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/history", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_what_was_drawn_is_found_again(client: httpx.Client) -> None:
    rob = character(client, "Rob")
    client.post("/v1/images/generations", json={"prompt": "kept nowhere"})
    answer = generate(client, "@rob waves", n=2, seed=5).json()
    story = create(client, "@rob sails\na quiet night")
    draw(client, story["id"])
    takes = [panel["takes"][0]["id"] for panel in drawn(client, story["id"])["panels"]]
    found = history(client)
    assert [each["id"] for each in found[:2]] == takes[::-1], "newest first, takes among them"
    assert found[0]["story"] == story["id"] and found[0]["panel"] == story["panels"][1]["id"]
    kept = found[2:]
    assert [each["seed"] for each in kept] == [6, 5] and kept[0]["story"] is None
    assert kept[1]["settings"]["prompt"] == "@rob waves" and kept[1]["settings"]["revised_prompt"] == "robot waves"
    assert kept[1]["character"] == [rob] and kept[1]["settings"]["characters"][0]["name"] == "Rob"
    assert [each["id"] for each in history(client, character=rob)] == [takes[0], *(each["id"] for each in kept)]
    assert [each["id"] for each in history(client, story=story["id"])] == takes[::-1]

    shown = client.get(kept[1]["picture"])
    assert shown.headers["content-type"] == "image/png" and shown.content
    assert answer["seed"] == kept[1]["seed"]
    for each in found:
        small = client.get(each["thumbnail"].replace("size=256", "size=128"))
        with Image.open(io.BytesIO(small.content)) as opened:
            assert opened.format == "WEBP" and max(opened.size) <= 128
        assert client.get(each["picture"]).status_code == 200


def test_candidates_of_a_character_are_kept(client: httpx.Client) -> None:
    body = {"prompt": "a blue robot", "n": 2, "seed": 5, "size": "64x64"}
    passing = client.post("/v1/characters/candidates", json=body)
    assert passing.status_code == 201 and history(client) == [], "only if it is asked for"
    answer = client.post("/v1/characters/candidates", json=body, headers=KEEP)
    assert answer.status_code == 201, answer.text
    found = history(client)
    assert [each["seed"] for each in found] == [6, 5] and [each["character"] for each in found] == [[], []]
    assert {each["settings"]["prompt"] for each in found} == {"a blue robot"}
    offered = [base64.b64decode(each["b64_json"]) for each in answer.json()["data"]]
    assert [client.get(each["picture"]).content for each in found] == offered[::-1]


def test_pages_run_through_takes_and_generations(client: httpx.Client) -> None:
    for index in range(3):
        generate(client, f"robot {index}")
        story = create(client, f"night {index}")
        draw(client, story["id"])
        drawn(client, story["id"])
    everything = [each["id"] for each in history(client)]
    assert len(everything) == 6
    found: list[str] = []
    while len(found) < 6:
        page = client.get("/v1/history", params={"limit": 2} | ({"after": found[-1]} if found else {})).json()
        assert page["has_more"] is (len(found) < 4)
        found += [each["id"] for each in page["data"]]
    assert found == everything


def test_what_is_deleted_is_gone(client: httpx.Client, config: Config) -> None:
    generate(client)
    story = create(client, "a quiet night")
    draw(client, story["id"])
    drawn(client, story["id"])
    for each in history(client):
        client.get(each["thumbnail"])
        deleted = client.delete(f"/v1/history/{each['id']}")
        assert deleted.json() == {"id": each["id"], "object": "generation.deleted", "deleted": True}
        for path in (each["picture"], each["thumbnail"]):
            assert error(client.get(path))["code"] == "generation_not_found"
        assert client.delete(f"/v1/history/{each['id']}").status_code == 404
    assert history(client) == []
    assert drawn(client, story["id"])["panels"][0]["takes"] == []
    left = [file for folder in ("gen-*", "story-*") for file in Path(config.serving.store).glob(f"{folder}/*")]
    assert left == []


def test_streams_and_edits_are_kept_too(client: httpx.Client) -> None:
    with client.stream(
        "POST", "/v1/images/generations", json={"prompt": "a stream", "stream": True}, headers=KEEP
    ) as answer:
        assert "completed" in answer.read().decode()
    form = {"prompt": "a robot", "target_word": "robot", "output_format": "webp"}
    answer = client.post("/v1/images/edits", data=form, files={"image": ("a.png", picture())}, headers=KEEP)
    assert answer.status_code == 200, answer.text
    edit, stream = history(client)
    assert stream["settings"]["prompt"] == "a stream" and edit["settings"]["prompt"] == "a robot"
    assert edit["character"] == [] and client.get(edit["picture"]).headers["content-type"] == "image/webp"
    refused = client.post("/v1/images/generations", json={"prompt": "x"}, headers={"X-Keep": "elsewhere"})
    assert refused.status_code == 400


def test_who_has_no_room_left_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    config = load_config("tiny", [f"serving.store={tmp_path}/store", "serving.stories.max_takes_bytes=10", *QUICK])
    with running(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        generate(client)
        refused = client.post("/v1/images/generations", json={"prompt": "a robot"}, headers=KEEP)
        assert refused.status_code == 409 and error(refused)["code"] == "limit_reached"
        assert client.post("/v1/images/generations", json={"prompt": "a robot"}).status_code == 200
        story = create(client, "one")
        assert client.post(f"/v1/stories/{story['id']}/draw", json={}).status_code == 409


# The store


class Archive:
    def __init__(self, directory: Path, database: str) -> None:
        self.clock, engine = Clock(), open_database(directory, database)
        blobs, limits = open_object_store(directory), StoriesConfig(history_keep_s=100, max_takes_bytes=10_000)
        self.store = HistoryStore(engine, blobs, StoryStore(engine, limits), limits, self.clock)

    def keep(self, owner: str = "", color: str = "red") -> str:
        settings: dict[str, Any] = {"prompt": "p", "characters": []}
        return self.store.save([NewGeneration(picture(color), 64, 64, 1, "m", "7", settings)], owner)[0]


@pytest.fixture
def archive(tmp_path: Path, database: str) -> Archive:
    return Archive(tmp_path, database)


def test_owners_see_their_own(archive: Archive) -> None:
    ada, bob = archive.keep("ada"), archive.keep("bob")
    assert [each.id for each in archive.store.page(owner="ada")] == [ada]
    for attempt in (archive.store.get, archive.store.picture, archive.store.delete):
        with pytest.raises(GenerationNotFoundError):
            attempt(ada, "bob")
    with pytest.raises(GenerationNotFoundError):
        archive.store.thumbnail(ada, 128, "bob")
    assert archive.store.picture(bob, "bob") == picture("red")


def test_generations_go_when_their_time_is_over(archive: Archive) -> None:
    old = archive.keep()
    archive.store.thumbnail(old, 128)
    archive.clock.now += 60
    young = archive.keep(color="blue")
    archive.clock.now += 60
    assert archive.store.sweep() == 1
    assert [each.id for each in archive.store.page()] == [young]
    with pytest.raises(GenerationNotFoundError):
        archive.store.picture(old)
    assert archive.store.sweep(older_than_s=0) == 0, "nothing of it is left, and nothing of the other goes"
    assert archive.store.picture(young) == picture("blue")


def test_room_is_counted_by_owner(archive: Archive) -> None:
    while True:
        archive.keep("ada")
        try:
            archive.store.check_quota("ada")
        except StoryLimitError:
            break
    assert sum(1 for _ in archive.store.page(100, owner="ada")) * len(picture("red")) >= 10_000
    archive.store.check_quota("bob")
    archive.store.delete(archive.store.page(owner="ada")[0].id, "ada")
    archive.store.check_quota("ada")


def test_only_ids_of_its_own_are_asked_for(archive: Archive) -> None:
    for wrong in ("gen-1", "../x", "take-" + "0" * 29, "char-" + "0" * 28, json.dumps({})):
        with pytest.raises(GenerationNotFoundError):
            archive.store.get(wrong)
        with pytest.raises(GenerationNotFoundError):
            archive.store.page(after=wrong)
