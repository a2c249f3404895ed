"""Redrawing a part of a take: a new take with the settings of the old one, over HTTP and by the client."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import numpy as np
from PIL import Image

from components.client import Client
from components.config import Config
from components.jobs.job import Job, NewJob, State
from deploy.interfaces.requests import GenerationRequest, JobPayload, RequestedRedraw, StoredTake
from deploy.jobs.service import JobService
from tests.fixtures.error_envelope import error
from tests.stories.conftest import character, create, draw, drawn


def hole(width: int, height: int) -> bytes:
    mask = Image.new("RGBA", (width, height), "black")
    mask.paste((0, 0, 0, 0), (0, 0, width // 2, height // 2))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def pixels(client: httpx.Client, take: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array(Image.open(io.BytesIO(client.get(take["picture"]).content)).convert("RGB"))


def first_take(client: httpx.Client) -> tuple[str, dict[str, Any]]:
    character(client, "Rob")
    story = create(client, "@rob on the beach", style="watercolour")["id"]
    draw(client, story)
    return story, drawn(client, story)["panels"][0]["takes"][0]


def test_a_new_prompt_mentions_the_takes_characters_only(client: httpx.Client) -> None:
    story, old = first_take(client)
    path = f"/v1/stories/{story}/takes/{old['id']}/redraw"
    for prompt in ("@nobody at night", '@"unfinished'):
        refused = client.post(path, json={"prompt": prompt})
        assert refused.status_code == 400 and error(refused)["code"] == "mention_unknown"
    assert client.post(path, json={"prompt": "@Rob at night"}).status_code == 202
    takes = drawn(client, story)["panels"][0]["takes"]
    assert sorted(take["settings"]["revised_prompt"] for take in takes)[0] == "robot at night"


def test_a_part_of_a_take_is_redrawn_as_a_new_take(client: httpx.Client) -> None:
    story, old = first_take(client)
    mask = base64.b64encode(hole(old["width"], old["height"])).decode()
    path = f"/v1/stories/{story}/takes/{old['id']}/redraw"
    sent = {"mask": mask, "strength": 0.7, "n": 2, "seed": 5}
    answer = client.post(path, json=sent, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 202 and len(answer.json()["data"]) == 2 and answer.json()["skipped"] == []
    again = client.post(path, json=sent, headers={"Idempotency-Key": "once"})
    assert again.json() == answer.json() and again.headers["Idempotent-Replayed"] == "true"
    panel = drawn(client, story)["panels"][0]
    assert len(panel["takes"]) == 3 and not panel["dirty"]
    new = [take for take in panel["takes"] if take["id"] != old["id"]]
    assert panel["chosen"] in {take["id"] for take in new}
    assert {take["seed"] for take in new} == {5, 6}
    before, inside = pixels(client, old), np.zeros((old["height"], old["width"]), bool)
    inside[: old["height"] // 2, : old["width"] // 2] = True
    for take in new:
        redraw = take["settings"].pop("redraw")
        assert redraw == {"take": old["id"], "strength": 0.7}
        assert take["settings"] == {k: v for k, v in old["settings"].items() if k != "redraw"}
        after = pixels(client, take)
        assert (before[~inside] == after[~inside]).all() and (before[inside] != after[inside]).any()
        assert len(take["masks"]) == 1, "the character acts in it"


def test_the_part_may_show_something_else(client: httpx.Client) -> None:
    story, old = first_take(client)
    service = Client(str(client.base_url))
    drawing = service.stories.redraw(story, old["id"], hole(old["width"], old["height"]), 0.9, "a red boat")
    assert len(drawing.jobs) == 1 and drawing.skipped == {}
    *_, ended = service.stories.wait(story, 30)
    newest = ended.panels[0].takes[0]
    assert newest.settings["revised_prompt"] == "a red boat" and newest.settings["redraw"]["take"] == old["id"]
    exported = service.stories.import_file(service.stories.export(story, "story"))
    assert exported.panels[0].takes[0].settings["redraw"] == {"take": old["id"], "strength": 0.9}


def test_what_cannot_be_redrawn_is_told(client: httpx.Client) -> None:
    story, old = first_take(client)
    path = f"/v1/stories/{story}/takes/{old['id']}/redraw"
    wrong = base64.b64encode(hole(16, 16)).decode()
    for sent, param in (
        ({"mask": wrong}, "mask"),
        ({"mask": "?"}, "mask"),
        ({"strength": 0}, "strength"),
        ({"strength": 0.01}, "strength"),
    ):
        refused = client.post(path, json=sent)
        assert refused.status_code == 400 and error(refused)["param"] == param, refused.text
    missing = client.post(f"/v1/stories/{story}/takes/take-0/redraw", json={})
    assert missing.status_code == 404 and error(missing)["code"] == "take_not_found"
    assert all(panel["job"] is None for panel in drawn(client, story)["panels"])


async def redrawn_job(config: Config) -> Job:
    """A job that redraws a take which does not exist, once it has ended."""
    service = JobService(config, FailingGenerator())
    service.start()
    redraw = RequestedRedraw(0.5, take=StoredTake("story-1", "take-1"))
    request = GenerationRequest("a", "", 64, 64, 10, 3.5, (1,), (), None, redraw=redraw)
    try:
        job, _ = await service.submit(NewJob(JobPayload(request, False, 0, "m").to_json(), "d", 5, 1))
        while not job.state.final:
            await asyncio.sleep(0.05)
            job = await service.get(job.id)
    finally:
        await service.close()
    return job


class FailingGenerator:
    async def generate(self, request: GenerationRequest) -> Any:
        raise AssertionError("nothing is generated")

    async def stream(self, request: GenerationRequest, previews: int = 0) -> AsyncGenerator[Any, None]:
        raise AssertionError("nothing is generated")
        yield


def test_a_take_that_is_deleted_meanwhile_is_the_jobs_error(config: Config) -> None:
    job = asyncio.run(redrawn_job(config))
    assert job.state is State.FAILED and job.error is not None and job.error["code"] == "take_not_found"
