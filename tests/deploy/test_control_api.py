"""``control`` of images, edits and jobs: what guides the composition, and what of it is refused."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from components.client import Client, Control
from components.config import Config, load_config
from components.engine.request import REFERENCE_SHARE, Request
from components.model.control import Control as ModelControl
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.interfaces.errors import UnsupportedRequestError
from deploy.interfaces.loaded_names import check_control
from deploy.interfaces.requests import GenerationRequest, JobPayload, RequestedControl
from tests.deploy.test_redraw_api import hole, panel, pixels, redraw
from tests.deploy.test_serving_api import client_of, create, error, generate, photograph
from tests.deploy.test_serving_jobs import wait
from tests.fakes.pipeline import FakeNamer, FakePipeline
from tests.fakes.service_process import QUICK, running
from workflows.cli import app

NAMED = "model.controls={pose: controls/pose, depth: controls/depth}"
LORAS = "model.loras={flat: flat.safetensors, ink: ink.safetensors}"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/characters", *QUICK, NAMED, LORAS])


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def client(config: Config, pipeline: FakePipeline) -> Iterator[TestClient]:
    characters = CharacterService(config)
    yield client_of(config, characters, GenerationService(pipeline, characters, namer=FakeNamer))


def pose(size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def control(image: bytes | None = None, **fields: Any) -> dict[str, Any]:
    encoded = base64.b64encode(pose() if image is None else image).decode()
    return {"name": "pose", "image": encoded} | fields


def opened(data: bytes, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB").resize(size, Image.Resampling.LANCZOS))


def test_a_control_reaches_the_model_beside_a_character(client: TestClient, pipeline: FakePipeline) -> None:
    character = create(client)["id"]
    sent = control(pose((160, 96)), scale=0.5, start=0.1, end=0.6)
    answer = generate(client, characters=[{"id": character}], size="96x64", control=sent, n=2)
    assert answer.status_code == 200, answer.text
    assert answer.json()["target_words"] == ["robot"]
    for acting in pipeline.controls:
        assert (acting.name, acting.scale, acting.start, acting.end) == ("pose", 0.5, 0.1, 0.6)
        assert (np.array(acting.image) == opened(pose((160, 96)), (96, 64))).all(), "resized as diffusers does"
    assert len(pipeline.controls) == 2


@pytest.mark.parametrize("url", ["", "data:image/jpeg;base64,"])
def test_pictures_of_all_formats_are_taken_with_their_defaults(
    client: TestClient, pipeline: FakePipeline, url: str
) -> None:
    sent = control(pose(kind="JPEG"))
    sent["image"] = url + sent["image"]
    assert generate(client, size="64x64", control=sent).status_code == 200
    (acting,) = pipeline.controls
    assert (acting.scale, acting.start, acting.end) == (1, 0, 1)
    assert generate(client, size="64x64", control=None).status_code == 200 and len(pipeline.controls) == 1


def edited(client: TestClient, *files: tuple[str, bytes], **form: Any) -> Any:
    sent = [(name, ("file.png", content)) for name, content in files]
    return client.post("/v1/images/edits", data={"prompt": "a robot"} | form, files=sent)


def test_edits_take_the_picture_as_a_file(client: TestClient, pipeline: FakePipeline) -> None:
    given = json.dumps({"name": "depth", "scale": 0.3})
    as_file = edited(client, ("image", photograph()), ("control_image", pose()), control=given, seed=1, size="64x64")
    inline = json.dumps(control(name="depth", scale=0.3))
    as_json = edited(client, ("image", photograph()), control=inline, seed=1, size="64x64")
    assert (pixels(as_file) == pixels(as_json)).all() and as_file.json()["target_words"] == ["robot"]
    assert [(each.name, each.scale) for each in pipeline.controls] == [("depth", 0.3)] * 2


def test_what_is_redrawn_is_controlled_in_its_own_size(client: TestClient, pipeline: FakePipeline) -> None:
    answer = redraw(client, mask=hole(), control=json.dumps(control(pose((128, 96)))))
    assert answer.status_code == 200, answer.text
    assert pipeline.controls[0].image.size == (64, 48) and pipeline.strengths == [0.8]
    assert (pixels(answer)[:8, :8] == np.array(Image.open(io.BytesIO(panel())))[:8, :8]).all(), "outside the mask"


@pytest.mark.parametrize(
    ("sent", "param", "code", "said"),
    [
        (control(name="oil"), "control.name", "invalid_order", "choose from: pose, depth"),
        (control(b"no picture"), "control.image", "invalid_picture", "send a still PNG, JPEG or WebP"),
        (control(image=b""), "control.image", "invalid_picture", "send a still PNG, JPEG or WebP"),
        (control() | {"image": "?"}, "control.image", "value_error", "base64"),
        (control() | {"image": "https://example.com/a.png"}, "control.image", "value_error", "nothing is fetched"),
        ({"name": "pose"}, "control.image", "missing", "required"),
        ([control(), control()], "control", "value_error", "one control"),
        (control(scale=2.5), "control.scale", "less_than_equal", "less than or equal to 2"),
        (control(start=0.5, end=0.5), "control", "value_error", "start must be less than end"),
        (control(weight=1), "control.weight", "extra_forbidden", "not permitted"),
    ],
)
def test_a_wrong_control_is_refused_by_field(
    client: TestClient, pipeline: FakePipeline, sent: Any, param: str, code: str, said: str
) -> None:
    answer = generate(client, control=sent)
    told = error(answer)
    assert (answer.status_code, told["param"], told["code"]) == (400, param, code) and said in told["message"]
    assert pipeline.requests == []


def test_a_wrong_control_of_a_form_is_refused_by_field(client: TestClient) -> None:
    unnamed = edited(client, ("image", photograph()), ("control_image", pose()))
    broken = edited(client, ("image", photograph()), ("control_image", pose()), control="{")
    assert unnamed.status_code == broken.status_code == 400
    assert "control_image: say in control" in error(unnamed)["message"] and "JSON" in error(broken)["message"]
    wrong = edited(client, ("image", photograph()), ("control_image", b"no picture"), control='{"name": "pose"}')
    assert error(wrong)["param"] == "control.image"


def test_a_service_without_controls_says_so() -> None:
    with pytest.raises(UnsupportedRequestError, match=r"control\.name: .* model\.controls names them"):
        check_control("pose", {})
    check_control(None, {})


def test_the_limits_are_those_of_uploaded_pictures(tmp_path: Path) -> None:
    limits = ["serving.max_upload_bytes=400000", "serving.max_upload_pixels=10000"]
    config = load_config("tiny", [f"serving.store={tmp_path}/characters", NAMED, *limits])
    characters = CharacterService(config)
    client = client_of(config, characters, GenerationService(FakePipeline(), characters))
    large = generate(client, control=control(pose((128, 96))))
    assert large.status_code == 400 and "10,000 pixels" in error(large)["message"]
    assert generate(client, control=control(pose((300, 400)))).status_code == 413


def test_a_control_counts_as_a_picture_in_the_budget() -> None:
    acting = ModelControl("pose", Image.new("RGB", (64, 64)))
    for references in (0, 1, 3):
        plain = Request("a", 1, 100, 100, 4, 3.5, references=references)
        controlled = Request("a", 1, 100, 100, 4, 3.5, references=references, control=acting)
        assert controlled.load - plain.load == round(REFERENCE_SHARE * plain.pixels)


def test_a_stored_job_keeps_the_picture_and_others_are_as_before() -> None:
    plain = GenerationRequest("a", "", 64, 64, 10, 3.5, (1,), (), None)
    acting = RequestedControl("pose", b"\x89PNG\xff", 0.5, 0.1, 0.9)
    for request in (plain, GenerationRequest("a", "", 64, 64, 10, 3.5, (1,), (), None, control=acting)):
        payload = JobPayload(request, False, 0, "m")
        assert JobPayload.from_json(json.loads(json.dumps(payload.to_json()))) == payload
    assert "control" not in JobPayload(plain, False, 0, "m").to_json()["order"], "earlier releases refuse it"


def test_jobs_and_the_client_send_it(config: Config, tmp_path: Path) -> None:
    (tmp_path / "pose.png").write_bytes(pose((160, 96)))
    acting = Control("pose", tmp_path / "pose.png", scale=0.7, end=0.8)
    seen = opened(pose((160, 96)), (96, 64))[:8, :8]
    with running(config) as url, Client(url) as client:
        job = client.jobs.submit("a robot", size="96x64", control=acting, key="once")
        assert client.jobs.submit("a robot", size="96x64", control=acting, key="once").id == job.id
        drawn = [
            client.jobs.wait(job.id, timeout_s=20),
            client.generate("a robot", size="96x64", control=acting),
            client.edit(photograph(), "a robot", size="96x64", control=acting),
            client.redraw(pose((96, 64)), "a robot", strength=1, control=acting),
        ]
        for pictures in drawn:
            assert (np.array(Image.open(io.BytesIO(pictures[0].data)))[:8, :8] == seen).all()
        other = httpx.post(
            f"{url}/v1/jobs",
            json={"prompt": "a robot", "partial_images": 3, "size": "96x64", "control": control()},
            headers={"Idempotency-Key": "once"},
        )
        assert other.status_code == 409, "another picture is another request"
        with httpx.Client(base_url=url) as http:
            refused = http.post("/v1/jobs", json={"prompt": "a robot", "control": control(name="oil")})
            assert refused.status_code == 400 and error(refused)["param"] == "control.name"
            queued = http.post("/v1/jobs", json={"prompt": "a robot", "control": control()}).json()["id"]
            assert wait(http, queued)["status"] == "done"


def test_the_command_line_names_loras_and_a_control(config: Config, pipeline: FakePipeline, tmp_path: Path) -> None:
    (tmp_path / "pose.png").write_bytes(pose())
    words = ["generate", "--prompt", "a robot", "--lora", "ink=0.5", "--lora", "flat"]
    words += ["--control", f"pose={tmp_path}/pose.png", "--control-scale", "0.4", "--control-end", "0.5"]
    words += ["--output", str(tmp_path / "drawn.png")]
    generator = GenerationService(pipeline, CharacterService(config), namer=FakeNamer)
    with running(config, generator) as url:
        done = CliRunner().invoke(app, [*words, "--url", url])
        assert done.exit_code == 0, done.output
        unknown = CliRunner().invoke(app, [*words, "--lora", "oil", "--url", url])
        assert unknown.exit_code == 2 and "loras[2].name" in unknown.stderr
    assert pipeline.loras == [(("flat", 1.0), ("ink", 0.5))]
    (acting,) = pipeline.controls
    assert (acting.name, acting.scale, acting.start, acting.end) == ("pose", 0.4, 0, 0.5)
    assert (np.array(Image.open(tmp_path / "drawn.png"))[:8, :8] == opened(pose(), (64, 64))[:8, :8]).all()


def test_clients_read_the_names(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["loras"], model["controls"]) == (["flat", "ink"], ["pose", "depth"])
