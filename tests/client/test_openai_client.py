"""The official `openai` client works unchanged, and so do the scripts of the documentation that need a service."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from components.config import PACKAGE_ROOT, Config, load_config
from tests.deploy.test_serving_api import SECRET, photograph
from tests.fakes.service_process import QUICK, running

PAGES = [*sorted((PACKAGE_ROOT / "docs").rglob("*.md")), PACKAGE_ROOT / "README.md"]
#: Python that talks to the service at this address.
SCRIPT = re.compile(r"^```python service\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
#: The picture that the tutorials use.
REFERENCE = "docs/images/reference_robot.png"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    store = tmp_path_factory.mktemp("characters")
    return load_config("tiny", [f"serving.store={store}", *QUICK])


@pytest.fixture(scope="module")
def url(config: Config) -> Iterator[str]:
    with running(config) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def picture(encoded: str | None) -> Image.Image:
    assert encoded
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def scripts() -> list[Any]:
    found = [(page.name, match["body"]) for page in PAGES for match in SCRIPT.finditer(page.read_text())]
    return [pytest.param(page, body, id=f"{page}-{index}") for index, (page, body) in enumerate(found)]


@pytest.mark.parametrize(("page", "body"), scripts())
def test_documented_scripts_run(page: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "rob.png").write_bytes(photograph())
    (folder / "docs" / "images").mkdir(parents=True)
    shutil.copy(PACKAGE_ROOT / REFERENCE, folder / REFERENCE)
    assert ADDRESS in body
    with running(load_config("tiny", [f"serving.store={tmp_path}/characters", *QUICK])) as url:
        exec(compile(body.replace(ADDRESS, url), page, "exec"), {})
    drawn = [path for path in folder.iterdir() if path.is_file() and path.name != "rob.png"]
    assert drawn and all(Image.open(path).size == (64, 64) for path in drawn)


def test_the_documentation_has_a_script_of_the_official_client() -> None:
    assert any("from openai import OpenAI" in parameter.values[1] for parameter in scripts())


def test_pictures(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a robot on the beach", model="realcustom-tiny", n=2, size="64x96")
    assert answer.data is not None and [picture(each.b64_json).size for each in answer.data] == [(64, 96)] * 2
    assert (answer.output_format, answer.size, answer.background) == ("png", "64x96", "opaque")
    assert answer.model_version == "7" and answer.seed >= 0  # type: ignore[attr-defined]


def test_every_field_of_the_client_that_has_a_meaning_here(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="a robot",
        background="auto",
        moderation="auto",
        n=None,
        output_compression=40,
        output_format="jpeg",
        quality="auto",
        response_format="b64_json",
        size="auto",
        style=None,
        stream=False,
        user="somebody",
        extra_body={"seed": 3, "steps": 5, "scheduler": "dpm++", "guidance_scale": 2.5},
    )
    assert answer.data is not None and picture(answer.data[0].b64_json).format == "JPEG"
    assert answer.seed == 3  # type: ignore[attr-defined]


def test_streams(client: openai.OpenAI) -> None:
    stream = client.images.generate(prompt="a slow robot", stream=True, partial_images=2, extra_body={"steps": 12})
    events = list(stream)
    *partial, completed = events
    assert completed.type == "image_generation.completed" and completed.usage.total_tokens == 0
    assert [each.type for each in partial] == ["image_generation.partial_image"] * len(partial)
    assert [each.partial_image_index for each in partial] == list(range(len(partial))) and partial  # type: ignore[union-attr]
    for each in events:
        assert (each.size, each.output_format, each.background, each.quality) == ("64x64", "png", "opaque", "auto")
        picture(each.b64_json).load()


@pytest.mark.parametrize("several", [False, True])
def test_edits(client: openai.OpenAI, several: bool) -> None:
    files: Any = [("rob.png", photograph()), ("rob2.png", photograph())]
    answer = client.images.edit(image=files if several else files[0], prompt="a robot on the beach", n=1)
    assert answer.data is not None and picture(answer.data[0].b64_json).getpixel((32, 32)) == (255, 0, 0)
    assert answer.target_words == ["robot"]  # type: ignore[attr-defined]


def test_edits_from_a_file_with_extensions_and_as_a_stream(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "rob.png"
    path.write_bytes(photograph())
    stream = client.images.edit(
        image=path, prompt="a slow cat", stream=True, partial_images=1, extra_body={"target_word": "cat", "seed": 4}
    )
    events = list(stream)
    assert {each.type for each in events} <= {"image_edit.partial_image", "image_edit.completed"}
    assert events[-1].type == "image_edit.completed"
    assert events[-1].target_words == ["cat"]  # type: ignore[union-attr]


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a robot", size="64x65")
    assert refused.value.param == "size" and refused.value.code == "invalid_size"
    with pytest.raises(openai.BadRequestError, match="b64_json"):
        client.images.generate(prompt="a robot", response_format="url")
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a robot", model=SECRET)
    with pytest.raises(openai.BadRequestError) as masked:
        client.images.edit(image=photograph(), mask=photograph(), prompt="a robot")
    assert masked.value.param == "mask"
    with pytest.raises(openai.BadRequestError) as early:
        client.images.generate(prompt="a robot", stream=True, extra_body={"scheduler": "realcustom"})
    assert early.value.param == "scheduler"


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["realcustom-tiny"]
