"""Whatever the interface's document allows or forbids, no request makes the service fail."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image, ImageDraw
from schemathesis.config import SchemathesisConfig

from components.access.key import KeyLimits, Scope
from components.access.store import KeyStore
from components.config import load_config
from components.database import open_database
from deploy.api.app import create_app
from deploy.api.authentication import PUBLIC_PATHS
from deploy.api.schema import ModelResponse
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from deploy.jobs.service import JobService
from deploy.stories.service import StoryService
from tests.fakes.pipeline import FakeNamer, FakePipeline
from tests.fixtures.error_envelope import error

#: Pictures are small and few steps are taken, so that it is requests that take the time.
SMALL = ["serving.max_side=64", "serving.max_steps=3", "sampling.steps=2", "serving.request_timeout_s=10"]
MODEL = ModelResponse(id="realcustom-tiny", version="7")
NOBODY = cast(Any, None)
#: What the service says of itself, for which it needs none of its parts.
INTERFACE = schemathesis.openapi.from_asgi(
    "/openapi.json",
    create_app(load_config("tiny", SMALL), MODEL, NOBODY, NOBODY, NOBODY, NOBODY),
    config=SchemathesisConfig(seed=1),
).exclude(path="/readyz")  # whose 503 says that no replica has reported
#: Operations that were asked for something that they gave, and those that were given pictures and took them.
GOOD: set[str] = set()
TOOK_PICTURES: set[str] = set()
#: The id of a character, which the service has from the start.
CHARACTER: list[str] = []
#: How often each operation was called without a key; that is refused before anything of a request is read.
REFUSED: Counter[str] = Counter()
REFUSALS = 20
PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> bytes:
    """A disc."""
    image = Image.new(mode, size)
    ImageDraw.Draw(image).ellipse((12, 8, 36, 32), fill="white" if mode.startswith("RGB") else 255)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


PICTURES = [
    *(picture("PNG"), picture("JPEG"), picture("WEBP"), picture("PNG", "RGBA"), picture("PNG", "L", (300, 40))),
    *(picture("PNG", size=(1, 1)), picture("GIF", "P"), picture("PNG")[:90], b"no picture", b""),
]
#: Operations that take pictures: fields with which they succeed, and the field of the pictures.
PICTURED: dict[str, tuple[dict[str, Any], str]] = {
    "POST /v1/characters": ({"name": "Rob", "target_word": "robot"}, "pictures"),
    "POST /v1/characters/{identifier}/pictures": ({}, "pictures"),
    "POST /v1/images/edits": ({"prompt": "a robot at night", "target_word": "robot"}, "image"),
}


@INTERFACE.hook
def before_generate_case(context: Any, strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Put pictures among the examples: into what was generated, and into requests that succeed with sound ones."""
    if context.operation.label not in PICTURED:
        return strategy
    fields, field = PICTURED[context.operation.label]
    several = st.lists(st.sampled_from(PICTURES), min_size=1, max_size=3)
    return st.one_of(
        strategy,
        st.builds(with_pictures, strategy, st.none(), st.just(field), several),
        st.builds(with_pictures, strategy, st.just(fields), st.just(field), several),
        st.builds(with_pictures, strategy, st.just(fields), st.just(field), st.just(PICTURES[:1])),
    )


def with_pictures(case: Any, fields: dict[str, Any] | None, field: str, pictures: list[bytes]) -> Any:
    """``case`` with pictures, and with ``fields`` in place of its own."""
    own = case.body if isinstance(case.body, dict) else {}
    is_json = "json" in (case.media_type or "")
    sent = [base64.b64encode(each).decode() for each in pictures] if is_json else pictures
    case.body = {**(own if fields is None else fields), field: sent}
    if "{identifier}" in case.operation.path and CHARACTER:
        case.path_parameters = {**case.path_parameters, "identifier": CHARACTER[0]}
    return case


def sends_pictures(case: Any) -> bool:
    _, field = PICTURED.get(case.operation.label, ({}, ""))
    sent = case.body.get(field) if isinstance(case.body, dict) else None
    known = {*PICTURES, *(base64.b64encode(each).decode() for each in PICTURES)}
    return isinstance(sent, list) and any(isinstance(each, str | bytes) and each in known for each in sent)


@dataclass
class Service:
    app: FastAPI
    key: dict[str, str]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The service with its parts, asking for keys; only the pipeline is a fake."""
    store = tmp_path_factory.mktemp("characters")
    config = load_config("tiny", [f"serving.store={store}", "serving.access.keys=required", *SMALL])
    characters = CharacterService(config)
    generator = GenerationService(FakePipeline(), characters, namer=FakeNamer)
    CHARACTER[:] = [asyncio.run(characters.create("Ada", "", "woman", PICTURES[:1], [], "ada")).id]
    app = create_app(config, MODEL, characters, generator, JobService(config, generator), StoryService(config))
    _, key = KeyStore(open_database(store, None)).create("ada", "test", [Scope.ADMIN], KeyLimits())
    return Service(app, {"Authorization": f"Bearer {key}"})


def operation_tests(name: str, examples: int, *marks: pytest.MarkDecorator) -> dict[str, Any]:
    """A test for each operation with a name of its own: Schemathesis gives all one id, by which processes know them."""

    def test_of(path: str, method: str) -> Any:
        def test(case: Any, service: Service) -> None:
            check(case, service)

        made = INTERFACE.include(path=path, method=method).parametrize()(settings(PATIENT, max_examples=examples)(test))
        for mark in marks:
            made = mark(made)
        return made

    operations = [found.ok() for found in INTERFACE.get_all_operations()]
    labels = [re.sub(r"\W+", "_", f"{each.method}_{each.path}").strip("_").lower() for each in operations]
    made = [test_of(each.path, each.method) for each in operations]
    return {f"test_{name}_{label}": test for label, test in zip(labels, made, strict=True)}


globals().update(operation_tests("no_request_makes_the_service_fail", 10))


def test_good_requests_were_among_them() -> None:
    if not GOOD:
        pytest.skip("nothing was requested")
    assert {"POST /v1/images/generations", "POST /v1/jobs", "GET /v1/characters", "GET /v1/models"} <= GOOD
    assert PICTURED.keys() == TOOK_PICTURES


globals().update(operation_tests("no_request_of_many_makes_the_service_fail", 300, pytest.mark.slow))


def check(case: Any, service: Service) -> None:
    """An answer, or an error in its envelope; without a key, always an error."""
    label = case.operation.label
    if case.operation.path not in PUBLIC_PATHS and REFUSED[label] < REFUSALS:
        REFUSED[label] += 1
        refused = case.call(app=service.app)
        assert refused.status_code == 401 and error(refused)["code"] == "invalid_api_key"
    answer = case.call(app=service.app, headers=service.key)
    assert answer.status_code < 500, answer.text
    if answer.status_code < 400:
        GOOD.add(label)
        if sends_pictures(case):
            TOOK_PICTURES.add(label)
    else:
        error(answer)
