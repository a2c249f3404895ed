"""The HTTP interface over the real parts in one process; only the pipeline is a fake."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from components.config import Config, load_config
from deploy.api.app import create_app
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationResult
from tests.fakes.pipeline import READ_WORDS, FakePipeline
from tests.fixtures import error_envelope

SECRET = "sekrit-value"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/characters", "serving.max_upload_bytes=200000"])


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def client(config: Config, pipeline: FakePipeline) -> Iterator[TestClient]:
    characters = CharacterService(config)
    yield client_of(config, characters, GenerationService(pipeline, characters))


def client_of(config: Config, characters: Any, generator: Any) -> TestClient:
    model = ModelResponse(id="realcustom-tiny", version="7")
    untested = cast(Any, None)  # jobs and stories have tests of their own
    app = create_app(config, model, characters, generator, untested, untested)
    return TestClient(app, raise_server_exceptions=False)


def photograph(color: str = "red") -> bytes:
    picture = Image.new("RGB", (160, 160), "lightgreen")
    ImageDraw.Draw(picture).ellipse((30, 30, 130, 130), fill=color)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def create(client: TestClient, sent: bytes | None = None, **fields: Any) -> dict[str, Any]:
    form = {"name": "Rob", "description": "a red robot with a hat"} | fields
    answer = client.post("/v1/characters", data=form, files=[("pictures", ("rob.png", sent or photograph()))])
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def generate(client: TestClient, prompt: str = "a robot on the beach", **fields: Any) -> Any:
    return client.post("/v1/images/generations", json={"prompt": prompt, **fields})


def picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def error(answer: Any) -> dict[str, Any]:
    """The envelope's content, which every error must have and which never holds the secret."""
    assert SECRET not in answer.text
    return error_envelope.error(answer)


def test_a_character_is_created_shown_and_deleted(client: TestClient) -> None:
    created = create(client)
    assert created["target_word"] == "robot"
    assert len(created["pictures"]) == 1
    assert client.get(f"/v1/characters/{created['id']}").json() == created
    shown = client.get(created["reference"])
    assert shown.headers["content-type"] == "image/png"
    cut_out = Image.open(io.BytesIO(shown.content))
    assert cut_out.getpixel((0, 0)) == (255, 255, 255)
    assert cut_out.getpixel((64, 64)) == (255, 0, 0)
    assert client.delete(f"/v1/characters/{created['id']}").json()["deleted"] is True
    for answer in (
        client.get(f"/v1/characters/{created['id']}"),
        client.get(created["reference"]),
        client.delete(f"/v1/characters/{created['id']}"),
    ):
        assert answer.status_code == 404
        assert error(answer)["code"] == "character_not_found"


def test_json_and_form_create_the_same(client: TestClient) -> None:
    encoded = base64.b64encode(photograph()).decode()
    for sent in (encoded, f"data:image/png;base64,{encoded}"):
        answer = client.post("/v1/characters", json={"name": "Rob", "target_word": "robot", "pictures": [sent]})
        assert answer.status_code == 201
        reference = client.get(answer.json()["reference"]).content
        assert reference == client.get(create(client)["reference"]).content


def test_characters_are_listed_in_pages(client: TestClient) -> None:
    names = [create(client, name=f"c{i}")["name"] for i in range(3)]
    first = client.get("/v1/characters", params={"limit": 2}).json()
    assert [c["name"] for c in first["data"]] == names[:0:-1] and first["has_more"]
    second = client.get("/v1/characters", params={"limit": 2, "after": first["data"][-1]["id"]}).json()
    assert [c["name"] for c in second["data"]] == names[:1] and not second["has_more"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": SECRET * 20}, "name"),
        ({"description": "", "target_word": ""}, "target_word"),
        ({"target_word": "--"}, "target_word"),
        ({SECRET[:3]: "x"}, "sek"),
        ({"pictures": []}, "pictures"),
        ({"pictures": [SECRET]}, "pictures[0]"),
        ({"pictures": [base64.b64encode(SECRET.encode()).decode()]}, "pictures"),
        ({"pictures": [base64.b64encode(photograph()).decode()] * 5}, "pictures"),
    ],
)
def test_bad_characters_are_refused_by_field(client: TestClient, fields: dict[str, Any], param: str) -> None:
    good = {"name": "Rob", "description": "a robot", "pictures": [base64.b64encode(photograph()).decode()]}
    answer = client.post("/v1/characters", json=good | fields)
    assert answer.status_code == 400
    assert error(answer)["param"] == param
    assert client.get("/v1/characters").json()["data"] == []


def test_a_huge_picture_is_refused_by_its_header(client: TestClient) -> None:
    size = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size)) + b"\0\0\0\1IDAT"
    files = [("pictures", ("good.png", photograph())), ("pictures", ("bomb.png", bomb))]
    answer = client.post("/v1/characters", data={"name": "Rob", "target_word": "robot"}, files=files)
    assert answer.status_code == 400
    assert error(answer)["message"].startswith("pictures[1]: ") and "pixels" in error(answer)["message"]
    assert client.get("/v1/characters").json()["data"] == []


def test_other_bodies_are_refused(client: TestClient) -> None:
    broken = client.post("/v1/characters", content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400 and error(broken)["code"] == "json_invalid"
    text = client.post("/v1/characters", content=SECRET, headers={"content-type": "text/plain"})
    assert text.status_code == 400 and error(text)["code"] == "content_type"
    form = {"name": "Rob", "target_word": "x"}
    string = client.post("/v1/characters", data=form, files={"pictures": (None, SECRET)})
    assert string.status_code == 400 and error(string)["param"] == "pictures[0]"


@pytest.mark.parametrize("path", ["/v1/characters", "/v1/images/generations"])
@pytest.mark.parametrize("announced", [True, False])
def test_too_large_a_body_is_refused(client: TestClient, path: str, announced: bool) -> None:
    body = b"{" + b" " * 300_000
    content = body if announced else iter([body[:150_000], body[150_000:]])
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert error(answer)["code"] == "too_large"


def test_pictures_with_a_character(client: TestClient) -> None:
    character = create(client)
    answer = generate(client, characters=[{"id": character["id"]}], n=2, seed=5, size="64x96", return_masks=True)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["seed"], body["target_words"], body["model"]) == (5, ["robot"], "realcustom-tiny")
    assert set(body["timings"]) == {"subject_s", "wait_s", "draw_s", "total_s"}
    first, second = (picture(d["b64_json"]) for d in body["data"])
    assert first.size == (64, 96)
    assert first.getpixel((32, 48)) == second.getpixel((32, 48)) == (255, 0, 0)
    assert first.getpixel((0, 0)) != second.getpixel((0, 0))
    assert [picture(mask).mode for mask in body["data"][0]["masks_b64_json"]] == ["L"]
    assert body["notes"] == []


def test_several_characters_in_one_picture(client: TestClient) -> None:
    red, blue = create(client), create(client, photograph("blue"))
    chosen = [{"id": red["id"]}, {"id": blue["id"], "target_word": "cat"}]
    body = generate(client, "a robot and a cat", characters=chosen, return_masks=True).json()
    assert body["target_words"] == ["robot", "cat"] and len(body["data"][0]["masks_b64_json"]) == 2
    drawn = picture(body["data"][0]["b64_json"])
    assert [drawn.getpixel((x, 32)) for x in (20, 44)] == [(255, 0, 0), (0, 0, 255)]
    unknown = generate(client, "a robot and a cat", characters=[chosen[0], {"id": "char-none"}])
    assert (unknown.status_code, error(unknown)["param"]) == (404, "characters[1].id")
    assert error(generate(client, "a robot", characters=[chosen[0]] * 5))["param"] == "characters"


def test_face_strength_acts_where_a_face_is_known_and_is_told_where_not(client: TestClient) -> None:
    sent = base64.b64encode(photograph()).decode()
    form = {"name": "Rob", "target_word": "robot", "pictures": [sent]}
    faced = client.post("/v1/characters", json=form | {"faces": [[60, 60, 100, 100]]}).json()
    faceless = client.post("/v1/characters", json=form).json()

    def middle(character: dict[str, Any], **strengths: float) -> tuple[Any, list[str]]:
        body = generate(client, characters=[{"id": character["id"], **strengths}]).json()
        return picture(body["data"][0]["b64_json"]).getpixel((32, 32)), body["notes"]

    assert middle(faced, face_strength=0.5) == ((127, 0, 0), [])
    assert middle(faced, body_strength=0.5) == ((255, 0, 0), []), "the fake's only token shows the face"
    color, notes = middle(faceless, face_strength=0.5)
    assert color == (255, 0, 0)
    assert notes == ["characters[0].face_strength: no face is known on this character's pictures, so it has no effect"]
    for wrong in ([[60, 60, 400, 100]], [[60, 60, 50, 100]]):
        answer = client.post("/v1/characters", json=form | {"faces": wrong})
        assert answer.status_code == 400 and error(answer)["message"].startswith("faces[0]: not a box")
    as_form = client.post(
        "/v1/characters",
        data={"name": "Rob", "target_word": "robot", "faces": "[[60, 60, 100, 100]]"},
        files=[("pictures", ("a.png", photograph(), "image/png"))],
    )
    assert middle(as_form.json(), face_strength=0.5) == ((127, 0, 0), [])


def test_n_pictures_have_the_seeds_that_follow(client: TestClient) -> None:
    three = generate(client, n=3, seed=10).json()["data"]
    alone = [generate(client, seed=10 + i).json()["data"][0] for i in range(3)]
    assert three == alone


def test_a_seed_is_chosen_and_told(client: TestClient) -> None:
    body = generate(client).json()
    assert generate(client, seed=body["seed"]).json()["data"] == body["data"]
    assert "masks_b64_json" not in body["data"][0]
    assert picture(body["data"][0]["b64_json"]).size == (64, 64)


def test_tokens_are_computed_once_and_again_for_another_model(config: Config) -> None:
    characters = CharacterService(config)
    old, new = FakePipeline("fake-1"), FakePipeline("fake-2")
    with client_of(config, characters, GenerationService(old, characters)) as client:  # encodings outlive a request
        chosen = [{"id": create(client)["id"]}]
        for _ in range(3):
            assert generate(client, characters=chosen).status_code == 200
    assert old.encoded == 1
    with client_of(config, characters, GenerationService(new, characters)) as client:
        for _ in range(2):
            assert generate(client, characters=chosen).status_code == 200
    assert new.encoded == 1


def test_the_prompt_must_hold_the_word(client: TestClient, pipeline: FakePipeline) -> None:
    chosen = {"id": create(client)["id"]}
    missing = generate(client, "a cat, category robotics", characters=[chosen])
    late = generate(client, "very " * READ_WORDS + "robot", characters=[chosen])
    for answer in (missing, late):
        assert answer.status_code == 400
        assert error(answer)["param"] == "characters"
        assert error(answer)["code"] == "target_word_not_in_prompt"
    assert pipeline.calls == []
    other = generate(client, "a cat", characters=[chosen | {"target_word": "cat"}])
    assert other.status_code == 200 and other.json()["target_words"] == ["cat"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": 5}, 400, "prompt"),
        ({"n": 0}, 400, "n"),
        ({"n": SECRET}, 400, "n"),
        ({"size": SECRET}, 400, "size"),
        ({"size": "64x65"}, 400, "size"),
        ({"size": "64x4096"}, 400, "size"),
        ({"steps": 1000}, 400, "steps"),
        ({"response_format": "url"}, 400, "response_format"),
        ({"guidance_scale": 0.5}, 400, "guidance_scale"),
        ({"mask_scope": 2}, 400, "mask_scope"),
        ({"unknown": SECRET}, 400, "unknown"),
        ({"characters": [{"id": "a", "strength": 9}]}, 400, "characters[0].strength"),
        ({"characters": [{"id": SECRET}] * 5}, 400, "characters"),
        ({"characters": [{"id": SECRET}]}, 404, "characters[0].id"),
        ({"model": SECRET}, 404, "model"),
    ],
)
def test_bad_generations_are_refused_by_field(
    client: TestClient, pipeline: FakePipeline, fields: dict[str, Any], status: int, param: str
) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": "a robot"} | fields)
    assert answer.status_code == status
    assert error(answer)["param"] == param
    assert pipeline.calls == []


def test_a_full_queue_and_a_fault_are_told_apart(config: Config) -> None:
    class Broken:
        def __init__(self, fault: Exception) -> None:
            self.fault = fault

        async def generate(self, request: GenerationRequest) -> GenerationResult:
            raise self.fault

    full = generate(client_of(config, None, Broken(UnavailableError("too many requests are waiting; try again later"))))
    assert full.status_code == 503 and full.headers["retry-after"]
    assert error(full)["type"] == "server_error"
    fault = generate(client_of(config, None, Broken(RuntimeError(SECRET))))
    assert fault.status_code == 500 and error(fault)["message"] == "internal error"


def test_health_models_and_unknown_paths(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/v1/models").json()["data"] == [
        {"id": "realcustom-tiny", "object": "model", "owned_by": "realcustom", "version": "7", "versions": []}
        | {"loras": [], "controls": []}
    ]
    assert client.get("/openapi.json").status_code == 200
    assert error(client.get(f"/{SECRET}"))["type"] == "invalid_request_error"
