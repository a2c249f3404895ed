"""``/v1/images/edits`` with a mask or a strength of redrawing: as OpenAI has it, and with characters."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from components.config import Config, load_config
from deploy.api.quotas import Caller
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.requests import GenerationRequest, JobPayload, RequestedRedraw, StoredTake
from tests.deploy.test_serving_api import client_of, create, error, generate, photograph, picture
from tests.fakes.pipeline import FakeNamer, FakePipeline

SIZE = (64, 48)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    named = "model.loras={flat: flat.safetensors, ink: ink.safetensors}"
    return load_config("tiny", [f"serving.store={tmp_path}/characters", named])


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def client(config: Config, pipeline: FakePipeline) -> Iterator[TestClient]:
    characters = CharacterService(config)
    yield client_of(config, characters, GenerationService(pipeline, characters, namer=FakeNamer))


def panel(size: tuple[int, int] = SIZE) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def hole(
    size: tuple[int, int] = SIZE, transparent: bool = True, where: tuple[int, int, int, int] = (8, 8, 40, 24)
) -> bytes:
    """As an image editor saves it: opaque but for a part."""
    mask = Image.new("RGBA", size, "white")
    if transparent:
        mask.paste((0, 0, 0, 0), where)
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def redraw(client: TestClient, *more: bytes, mask: bytes | None = None, image: bytes | None = None, **form: Any) -> Any:
    sent = [("image[]", ("panel.png", panel() if image is None else image))]
    sent += [("image[]", ("subject.png", each)) for each in more]
    sent += [] if mask is None else [("mask", ("mask.png", mask))]
    return client.post("/v1/images/edits", data={"prompt": "a robot on the beach", "steps": 5} | form, files=sent)


def pixels(response: Any) -> np.ndarray[Any, Any]:
    assert response.status_code == 200, response.text
    return np.array(picture(response.json()["data"][0]["b64_json"]).convert("RGB"))


def test_outside_the_mask_not_a_pixel_changes(client: TestClient, pipeline: FakePipeline) -> None:
    response = redraw(client, mask=hole())
    before, after = np.array(Image.open(io.BytesIO(panel()))), pixels(response)
    inside = np.zeros(SIZE[::-1], bool)
    inside[8:24, 8:40] = True
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any(1).mean() > 0.9
    body = response.json()
    assert (body["size"], body["target_words"]) == ("64x48", []), "the picture's own size, and no subject"
    assert pipeline.strengths == [0.8]


def test_characters_and_uploaded_subjects_stand_in_what_is_redrawn(client: TestClient, pipeline: FakePipeline) -> None:
    character = create(client)["id"]
    named = redraw(client, prompt="@rob on the beach", mask=hole(), redraw_strength="0.4")
    chosen = redraw(client, characters=json.dumps([{"id": character, "strength": 0.5}]), mask=hole(), redraw_strength=1)
    assert named.json()["target_words"] == chosen.json()["target_words"] == ["robot"]
    uploaded = redraw(client, photograph("green"), redraw_strength=0.6)
    assert uploaded.json()["target_words"] == ["robot"] and pipeline.encoded == 2
    assert pipeline.strengths == [0.4, 1.0, 0.6]


def test_a_given_size_resizes_the_picture(client: TestClient) -> None:
    before = Image.open(io.BytesIO(panel())).resize((96, 80), Image.Resampling.LANCZOS)
    after = pixels(redraw(client, mask=hole(), size="96x80"))
    assert after.shape == (80, 96, 3) and (after[60:, 70:] == np.array(before)[60:, 70:]).all()


def test_without_mask_and_strength_the_image_is_a_subject(client: TestClient, pipeline: FakePipeline) -> None:
    assert redraw(client, image=photograph()).json()["target_words"] == ["robot"]
    assert pipeline.strengths == []
    refused = redraw(client, image=photograph(), characters="[]")
    assert refused.status_code == 200, "an empty list is none"


def test_loras_are_named_with_weights(client: TestClient, pipeline: FakePipeline) -> None:
    loras = [{"name": "ink"}, {"name": "flat", "weight": -0.5}]
    assert generate(client, "a robot", loras=loras).status_code == 200
    assert redraw(client, redraw_strength=1, loras=json.dumps(loras[:1])).status_code == 200
    assert pipeline.loras == [(("flat", -0.5), ("ink", 1.0)), (("ink", 1.0),)]
    unknown = generate(client, "a robot", loras=[{"name": "oil"}])
    told = error(unknown)
    assert unknown.status_code == 400 and told["param"] == "loras[0].name" and told["code"] == "invalid_order"
    assert "choose from: flat, ink" in told["message"]
    twice = generate(client, "a robot", loras=[{"name": "ink"}, {"name": "ink"}])
    assert twice.status_code == 400 and "once" in error(twice)["message"]


@pytest.mark.parametrize(
    ("form", "param", "code", "said"),
    [
        ({"mask": hole(transparent=False)}, "mask", "invalid_region", "nothing is transparent"),
        ({"mask": hole((64, 64))}, "mask", "invalid_region", "64x48"),
        ({"mask": b"no picture"}, "mask", "invalid_region", "send a PNG"),
        ({"mask": hole(where=(1, 1, 8, 8))}, "mask", "invalid_region", "covers no latent; mark a larger part"),
        ({"redraw_strength": 0}, "redraw_strength", None, "greater than 0"),
        ({"redraw_strength": 0.1}, "redraw_strength", "too_small", "of 5 steps none is made"),
        ({"mask": hole(), "image": b"no picture"}, "image", "invalid_picture", "image: "),
        ({"redraw_strength": 1, "image": panel((60, 50))}, "image", "invalid_size", "60x50"),
        ({"redraw_strength": 1, "target_word": "robot"}, "target_word", "invalid_order", "after the first one"),
        ({"redraw_strength": 1, "characters": '[{"id": "nobody"}]'}, "characters[0].id", "character_not_found", ""),
        ({"redraw_strength": 1, "characters": "{"}, "characters", None, "JSON"),
        ({"characters": '[{"id": "nobody"}]'}, "characters", "invalid_order", "mask or redraw_strength"),
    ],
)
def test_what_cannot_be_redrawn_is_told(
    client: TestClient, form: dict[str, Any], param: str, code: str | None, said: str
) -> None:
    response = redraw(client, **form)
    assert response.status_code == (404 if code == "character_not_found" else 400)
    told = error(response)
    assert told["param"] == param and said in told["message"] and code in (None, told["code"])


def test_the_cost_is_that_of_the_steps_that_are_made() -> None:
    request = GenerationRequest("a", "", 64, 64, 10, 3.5, (1,), (), None, redraw=RequestedRedraw(0.35))
    assert request.made_steps == 3 and Caller().cost(request) is None


def test_a_stored_job_keeps_the_take_and_the_mask_and_others_are_as_before() -> None:
    redrawn = RequestedRedraw(0.5, b"\x89PNG\xff", take=StoredTake("story-1", "take-1"))
    plain = GenerationRequest("a", "", 64, 64, 10, 3.5, (1,), (), None)
    for request in (plain, GenerationRequest("a", "", 64, 64, 10, 3.5, (1,), (), None, redraw=redrawn)):
        payload = JobPayload(request, False, 0, "m")
        assert JobPayload.from_json(json.loads(json.dumps(payload.to_json()))) == payload
    stored = JobPayload(plain, False, 0, "m").to_json()
    assert "redraw" not in stored["order"], "earlier releases read and write none"
