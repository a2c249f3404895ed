"""Whatever the interface's document allows or forbids, no request makes the service fail."""

from __future__ import annotations

from typing import Any, cast

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from components.config import load_config
from deploy.characters import CharacterService
from deploy.gateway import create_app
from deploy.generation import GenerationService
from deploy.jobs import JobService
from deploy.schema import ModelResponse
from tests.serving_fakes import FakeNamer, FakePipeline

#: Pictures are small and few steps are taken, so that it is requests that take the time.
SMALL = ["serving.max_side=64", "serving.max_steps=3", "sampling.steps=2", "serving.request_timeout_s=10"]
MODEL = ModelResponse(id="realcustom-tiny", version="7")
NOBODY = cast(Any, None)
#: What the service says of itself, for which it needs none of its parts.
INTERFACE = schemathesis.openapi.from_asgi(
    "/openapi.json",
    create_app(load_config("tiny", SMALL), MODEL, NOBODY, NOBODY, NOBODY),
    config=SchemathesisConfig(seed=1),
).exclude(path="/readyz")  # whose 503 says that no replica has reported
#: Operations that were asked for something that they gave.
GOOD: set[str] = set()
PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The service with its parts; only the pipeline is a fake."""
    config = load_config("tiny", [f"serving.store={tmp_path_factory.mktemp('characters')}", *SMALL])
    characters = CharacterService(config)
    generator = GenerationService(FakePipeline(), characters, namer=FakeNamer)
    return create_app(config, MODEL, characters, generator, JobService(config, generator))


@INTERFACE.parametrize()
@settings(PATIENT, max_examples=10)
def test_no_request_makes_the_service_fail(case: Any, service: FastAPI) -> None:
    check(case, service)


def test_good_requests_were_among_them() -> None:
    if not GOOD:
        pytest.skip("nothing was requested")
    assert {"POST /v1/images/generations", "POST /v1/jobs", "GET /v1/characters", "GET /v1/models"} <= GOOD


@pytest.mark.slow
@INTERFACE.parametrize()
@settings(PATIENT, max_examples=300)
def test_no_request_of_many_makes_the_service_fail(case: Any, service: FastAPI) -> None:
    check(case, service)


def check(case: Any, service: FastAPI) -> None:
    """An answer, or an error in its envelope."""
    answer = case.call(app=service)
    assert answer.status_code < 500, answer.text
    if answer.status_code < 400:
        GOOD.add(case.operation.label)
    else:
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
