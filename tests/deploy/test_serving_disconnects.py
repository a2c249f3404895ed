"""A request ends when its client disconnects; and jobs accept the fields of image requests."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from components.config import Config, load_config
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from tests.deploy.test_serving_api import photograph
from tests.fakes.pipeline import FakePipeline
from tests.fakes.service_process import QUICK, running

#: Takes three seconds.
SLUGGISH = {"prompt": "a sluggish robot", "steps": 60}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config("tiny", [f"serving.store={tmp_path}/characters", *QUICK])


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def url(config: Config, pipeline: FakePipeline) -> Iterator[str]:
    with running(config, GenerationService(pipeline, CharacterService(config))) as url:
        assert httpx.get(f"{url}/healthz", timeout=30).is_success
        yield url


def until(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stopped_early(pipeline: FakePipeline) -> bool:
    """Whether the steps come to an end before their number."""
    time.sleep(0.5)
    before = len(pipeline.calls)
    time.sleep(0.5)
    return len(pipeline.calls) == before < SLUGGISH["steps"]  # type: ignore[operator]


def test_a_request_ends_when_its_client_disconnects(url: str, pipeline: FakePipeline) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/images/generations", json=SLUGGISH, timeout=0.5)
    assert pipeline.calls and stopped_early(pipeline)


def test_a_stream_ends_when_its_client_disconnects(url: str, pipeline: FakePipeline) -> None:
    asked = SLUGGISH | {"stream": True, "partial_images": 3}
    with httpx.stream("POST", f"{url}/v1/images/generations", json=asked, timeout=10) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("event: "))
    assert line == "event: image_generation.partial_image"
    assert stopped_early(pipeline)


def test_a_client_that_disconnects_before_the_stream_begins(url: str, pipeline: FakePipeline) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/images/generations", json=SLUGGISH | {"stream": True}, timeout=0.03)
    assert stopped_early(pipeline)


def test_jobs_take_the_same_fields(url: str, pipeline: FakePipeline) -> None:
    with httpx.Client(base_url=url, timeout=10) as client:
        form = {"name": "Rob", "target_word": "robot"}
        client.post("/v1/characters", data=form, files=[("pictures", ("rob.png", photograph()))]).raise_for_status()
        asked = {"prompt": "@rob at home", "output_format": "jpeg", "scheduler": "euler", "style": "vivid", "seed": 3}
        submitted = client.post("/v1/jobs", json=asked)
        assert submitted.status_code == 202, submitted.text
        place = submitted.headers["location"]
        until(lambda: client.get(place).json()["status"] == "done")
        result = client.get(place).json()["result"]
        assert Image.open(io.BytesIO(base64.b64decode(result["data"][0]["b64_json"]))).format == "JPEG"
        assert result["target_words"] == ["robot"] and result["output_format"] == "jpeg"
        assert [note.partition(":")[0] for note in result["notes"]] == ["style"]
        assert "home" not in json.dumps(result), "an ended job's prompt is kept nowhere"
        refused = client.post("/v1/jobs", json=asked | {"stream": True})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "stream"
    assert type(pipeline.schedulers[-1]).__name__ == "EulerDiscreteScheduler"
