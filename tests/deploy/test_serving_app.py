"""The application on real Ray Serve, with a pipeline that paints; and the config file that deploys it."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image, ImageDraw
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from components.config import load_config
from components.errors import ConfigError, RegistryError
from deploy import app

FAKES = "tests.fakes.pipeline"


def test_the_config_file_is_valid_and_names_the_builder() -> None:
    text = (Path(app.__file__).parent / "serve.yaml").read_text()
    schema = ServeDeploySchema.model_validate(yaml.safe_load(text))
    (application,) = schema.applications
    module, _, function = application.import_path.partition(":")
    assert module == app.__name__ and callable(getattr(app, function))
    args = app.BuildArgs.model_validate(application.args)
    assert load_config(args.preset, args.overrides).preset == args.preset


def test_build_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match="unknown preset"):
        app.build({"preset": "huge"})
    with pytest.raises(ValueError, match="presets"):
        app.build({"presets": "tiny"})
    with pytest.raises(RegistryError):
        args = {"model_uri": "models:/unknown@champion", "registry": FAKES}
        app.build(args | {"overrides": ["serving.access.open_to_network=true"]})


def test_gateways_scale_with_their_open_requests(tmp_path: Path) -> None:
    overrides = [f"serving.store={tmp_path}", "serving.gateways.min=2", "serving.gateways.max=5"]
    bound = app.bind_deployments(load_config("tiny", overrides), registry=FAKES)
    scaling = bound._bound_deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 50)
    with pytest.raises(ConfigError, match="min is more than max"):
        load_config("tiny", ["serving.gateways.min=3"])


@pytest.mark.parametrize(
    ("settings", "drain_s"),
    [
        ([], 300),
        (["serving.request_timeout_s=900"], 900),
        (["serving.drain_s=60"], 300),
        (["serving.drain_s=1000"], 1000),
    ],
)
def test_a_replica_that_stops_has_the_time_of_the_longest_request(
    tmp_path: Path, settings: list[str], drain_s: float
) -> None:
    bound = app.bind_deployments(load_config("tiny", [f"serving.store={tmp_path}", *settings]), registry=FAKES)
    times = {}
    waiting = [bound]
    while waiting:
        deployment = waiting.pop()._bound_deployment
        times[deployment.name] = deployment._deployment_config.graceful_shutdown_timeout_s
        waiting += [argument for argument in deployment.init_args if isinstance(argument, Application)]
    for name in ("Gateway", "Generator", "Characters", "Stories", "Administration"):
        assert times[name] > drain_s, "what is given, and a look at whether the requests are done"


@pytest.mark.slow
def test_the_whole_service_over_http(tmp_path: Path, ray_cluster: None) -> None:
    overrides = [
        "serving.port=0",
        f"serving.store={tmp_path}/characters",
        "serving.max_replicas=1",
        "serving.max_ongoing_requests=4",
        "serving.max_queued_requests=2",
    ]
    url = app.start(load_config("tiny", overrides), registry=FAKES)
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            check_service(client)
    finally:
        app.stop()


def check_service(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/v1/models").json()["data"][0]["version"] == "7"

    form = {"name": "Rob", "description": "a red robot"}
    created = client.post("/v1/characters", data=form, files=[("pictures", ("rob.png", photograph()))])
    assert created.status_code == 201, created.text
    chosen = [{"id": created.json()["id"]}]
    assert client.get(created.json()["reference"]).content.startswith(b"\x89PNG")

    def generate(prompt: str, **fields: Any) -> httpx.Response:
        return client.post("/v1/images/generations", json={"prompt": prompt, "characters": chosen} | fields)

    drawn = generate("a robot on the beach", n=3, seed=1, return_masks=True)
    assert drawn.status_code == 200, drawn.text
    assert len(drawn.json()["data"]) == 3

    missing = generate("a cat on the beach")
    assert missing.status_code == 400 and missing.json()["error"]["param"] == "characters"
    unreadable = client.post("/v1/characters", data=form, files=[("pictures", ("rob.png", b"not a picture"))])
    assert unreadable.status_code == 400 and unreadable.json()["error"]["message"].startswith("pictures[0]: not a")

    def answer(seed: int) -> httpx.Response:
        return generate("a slow robot", seed=seed)

    with ThreadPoolExecutor(16) as executor:
        answers = list(executor.map(answer, range(16)))
    statuses = {a.status_code for a in answers}
    assert statuses == {200, 503}, "four are worked on, two wait, the others are refused"
    refused = next(a for a in answers if a.status_code == 503)
    assert refused.json()["error"]["code"] == "overloaded" and int(refused.headers["Retry-After"]) >= 1

    check_streams(client, chosen)
    check_edits(client)
    check_leaving(client)

    assert client.delete(f"/v1/characters/{chosen[0]['id']}").status_code == 200
    assert generate("a robot").status_code == 404


def check_streams(client: httpx.Client, chosen: list[dict[str, str]]) -> None:
    asked = {"prompt": "a slow robot", "characters": chosen, "stream": True, "partial_images": 2}
    with client.stream("POST", "/v1/images/generations", json=asked) as answer:
        names = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]
    assert names[-1] == "image_generation.completed" and "image_generation.partial_image" in names
    refused = client.post("/v1/images/generations", json=asked | {"scheduler": "realcustom"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "scheduler"


def check_edits(client: httpx.Client) -> None:
    """With a word, and with one that the trained miniature finds."""
    for form in ({"prompt": "a robot", "target_word": "robot"}, {"prompt": "on the beach"}):
        drawn = client.post("/v1/images/edits", data=form, files=[("image", ("rob.png", photograph()))])
        assert drawn.status_code == 200, drawn.text
        assert len(drawn.json()["target_words"]) == 1


def check_leaving(client: httpx.Client) -> None:
    """A client that disconnects frees its place: four requests are running, and none of them runs to its end."""

    def leave(stream: bool) -> None:
        asked = {"prompt": "a sluggish robot", "stream": stream}
        leaver = httpx.Client(base_url=client.base_url, timeout=0.7)
        with leaver, suppress(httpx.ReadTimeout), leaver.stream("POST", "/v1/images/generations", json=asked) as answer:
            next(answer.iter_raw())  # and the stream has begun

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(leave, [False, True, False, True]))
    started = time.monotonic()
    assert client.post("/v1/images/generations", json={"prompt": "a robot"}).status_code == 200
    assert time.monotonic() - started < 1.5


def photograph() -> bytes:
    picture = Image.new("RGB", (160, 160), "lightgreen")
    ImageDraw.Draw(picture).ellipse((30, 30, 130, 130), fill="red")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
