"""One stream for a whole story: everything that changes, once, and from where the line was lost."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from components.config import Config
from components.stories.store import StoryStore
from tests.stories.conftest import create, draw, drawn, running


class Event(NamedTuple):
    kind: str
    data: dict[str, Any]
    id: str | None


def events(client: httpx.Client, story: str, last: str | None = None) -> Iterator[Event]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", f"/v1/stories/{story}/events", headers=headers) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        kind, data, identifier = "", "", None
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                kind = value
            elif field == "data":
                data = value
            elif field == "id":
                identifier = value
            elif not line and data:
                yield Event(kind, json.loads(data), identifier)
                kind, data, identifier = "", "", None


def test_a_stream_tells_all_of_a_story_from_its_words_to_its_pictures(client: httpx.Client) -> None:
    story = create(client, "a slow night\nanother slow night")
    told = events(client, story["id"])
    first = [next(told) for _ in range(3)]
    assert [event.kind for event in first] == ["story", "panel", "panel"]
    assert first[0].data["order"] == [panel["id"] for panel in story["panels"]]
    assert [event.id for event in first] == [None, None, str(story["event"])], "who loses the line misses nothing"
    threading.Timer(0.1, lambda: draw(client, story["id"])).start()
    seen: dict[str, list[dict[str, Any]]] = {panel["id"]: [] for panel in story["panels"]}
    previews = []
    for event in told:
        if event.kind == "panel":
            seen[event.data["id"]].append(event.data)
        elif event.kind == "preview":
            previews.append(event.data)
        if all(states and states[-1]["takes"] for states in seen.values()):
            break
    for states in seen.values():
        steps = [state["job"]["step"] for state in states if state["job"]]
        assert steps == sorted(steps) and states[-1]["job"] is None
    assert previews and {preview["panel"] for preview in previews} <= set(seen)


def test_who_comes_back_is_told_what_has_changed_since(client: httpx.Client) -> None:
    story = create(client, "one\ntwo")
    path = f"/v1/stories/{story['id']}"
    second = story["panels"][1]["id"]
    client.patch(f"{path}/panels/{second}", json={"prompt": "three"})
    told = events(client, story["id"], str(story["event"]))
    event = next(told)
    assert event.kind == "panel" and event.data["id"] == second and event.data["prompt"] == "three"
    last = event.id
    told.close()  # type: ignore[attr-defined]
    client.put(f"{path}/order", json={"panels": [second, story["panels"][0]["id"]]})
    event = next(events(client, story["id"], last))
    assert event.kind == "story" and event.data["order"][0] == second and "panels" not in event.data


def test_a_deleted_story_ends_its_stream(client: httpx.Client) -> None:
    story = create(client, "one")
    told = events(client, story["id"])
    threading.Timer(0.2, lambda: client.delete(f"/v1/stories/{story['id']}")).start()
    assert list(told)[-1][:2] == ("deleted", {"id": story["id"], "object": "story.deleted", "deleted": True})


def test_all_streams_together_ask_once_a_tick(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()
    read, poll = StoryStore.news, StoryStore.cursors

    def news(self: StoryStore, *arguments: Any) -> Any:
        asked["news"] += 1
        return read(self, *arguments)

    def cursors(self: StoryStore, *arguments: Any) -> Any:
        asked["cursors"] += 1
        return poll(self, *arguments)

    monkeypatch.setattr(StoryStore, "news", news)
    monkeypatch.setattr(StoryStore, "cursors", cursors)
    with running(config) as url, httpx.Client(base_url=url, timeout=30) as client:
        story = create(client, "\n".join(f"night {index}" for index in range(40)))
        streams = [events(client, story["id"], str(story["event"])) for _ in range(5)]
        draw(client, story["id"], panels=[story["panels"][0]["id"]])
        for told in streams:
            first = next(event for event in told if event.kind == "panel")
            assert first.data["id"] == story["panels"][0]["id"]
        drawn(client, story["id"])
        threading.Event().wait(0.5)
        before = asked.copy()
        threading.Event().wait(1.0)
        assert 1 <= asked["cursors"] - before["cursors"] <= 25, "a tick is 0.05 s"
        assert asked["news"] - before["news"] <= 5, "nothing has changed"
